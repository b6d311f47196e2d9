//! Any bytes as a record, as a message's body and as a chunk of the store: no panic, and what is accepted is consistent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_storage::{StoredMessage, decode, examine};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((record, length)) = decode(bytes) {
        assert!(length <= bytes.len());
        assert_eq!(record.receivers().count(), record.receivers as usize);
    }
    if let Ok(message) = StoredMessage::decode(bytes) {
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(StoredMessage::decode(&again).expect("what was encoded"), message);
    }
    // With the check filled in, the parser behind it is reached, too.
    if bytes.len() >= 8 {
        let mut sealed = bytes.to_vec();
        whimbrel_storage::seal(&mut sealed);
        if let Ok((record, _)) = decode(&sealed) {
            assert!(record.receivers().all(|(slot, _)| record.receiver(slot).is_some()));
        }
    }
    examine(bytes, |record| assert!(record.receivers > 0));
});
