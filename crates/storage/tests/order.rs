//! Records come back in the order in which they were written, whoever wrote them and however often they were moved.

mod kit;

use std::sync::Arc;

use kit::{Contents, Hand, MemoryDisk, hash_of, options};
use whimbrel_storage::{Kind, Store, open_on};

#[test]
fn space_recovery_keeps_the_order_of_writers_that_took_turns() {
    let (store, _) = open_on(options(), Arc::new(MemoryDisk::default())).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut hands = [Hand::of(Arc::clone(&store)), Hand::of(Arc::clone(&store))];
    for turn in 0..40_u8 {
        // The later lane writes first, so that the order of slots is not the order of writing.
        let hand = &mut hands[usize::from(turn % 2 == 0)];
        hand.put(Kind::Message, &[turn], &[1]);
        hand.commit();
    }
    hands[0].bell.until(|| store.statistics().chunks < 10);
    let found: Vec<u64> = Contents::of(&*store).records.iter().map(|(_, hash, _)| *hash).collect();
    let written: Vec<u64> = (0..40_u8).map(|turn| hash_of(&[turn])).collect();
    assert_eq!(found, written);
}
