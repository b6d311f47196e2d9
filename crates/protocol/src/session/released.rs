//! Slots of the store that are needed no longer.
//!
//! Knows numbers that wait to be passed on. Wherever a session lets go of a stored delivery it says so here, and its worker
//! tells the store at the end of the turn. Nothing is released by dropping: a broker that ends must not forget anything.

use std::cell::RefCell;
use std::rc::Rc;

/// Slots for which room is kept.
const KEPT_MAX: usize = 16 * 1024;

/// The slots that the sessions of one worker have let go of.
#[derive(Clone, Default, Debug)]
pub struct Released(Rc<RefCell<Vec<u64>>>);

impl Released {
    /// A slot is free; 0 names none.
    #[inline]
    pub fn push(&self, slot: u64) {
        if slot != 0 {
            self.0.borrow_mut().push(slot);
        }
    }

    /// How many have gathered.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out what has gathered since there were `before`.
    pub fn split_off(&self, before: usize) -> Vec<u64> {
        self.0.borrow_mut().split_off(before)
    }

    /// Hands on what has gathered.
    pub fn drain(&self, mut take: impl FnMut(u64)) {
        let mut slots = self.0.borrow_mut();
        slots.drain(..).for_each(&mut take);
        slots.shrink_to(KEPT_MAX); // A session that ended may have had a million.
    }
}
