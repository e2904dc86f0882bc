//! What a service turned out to do and not to do while it was used: known for the run, so that nothing is asked twice in vain.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What is known of a service by now.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// It does not remove many objects in one request.
    no_batches: AtomicBool,
    /// It does not copy into a part of an upload.
    no_part_copies: AtomicBool,
    /// It does so, and refuses conditions on the source of a part.
    no_part_conditions: AtomicBool,
    /// It refuses to be asked for checksums.
    no_checksum_mode: AtomicBool,
    conditions: AtomicU8,
    vouches: AtomicU8,
}

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// What a service makes of `If-None-Match: *` on a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// Nobody has seen it yet.
    Unknown,
    /// What is there is not overwritten.
    Kept,
    /// What is there is overwritten all the same.
    Ignored,
}

impl Learned {
    pub(crate) fn knows_batches(&self) -> bool {
        !self.no_batches.load(Ordering::Relaxed)
    }

    pub(crate) fn has_no_batches(&self) {
        self.no_batches.store(true, Ordering::Relaxed);
    }

    pub(crate) fn knows_part_copies(&self) -> bool {
        !self.no_part_copies.load(Ordering::Relaxed)
    }

    pub(crate) fn has_no_part_copies(&self) {
        self.no_part_copies.store(true, Ordering::Relaxed);
    }

    pub(crate) fn knows_part_conditions(&self) -> bool {
        !self.no_part_conditions.load(Ordering::Relaxed)
    }

    pub(crate) fn has_no_part_conditions(&self) {
        self.no_part_conditions.store(true, Ordering::Relaxed);
    }

    pub(crate) fn knows_checksum_mode(&self) -> bool {
        !self.no_checksum_mode.load(Ordering::Relaxed)
    }

    pub(crate) fn has_no_checksum_mode(&self) {
        self.no_checksum_mode.store(true, Ordering::Relaxed);
    }

    /// True when it tells of what it stored a checksum that it computed of its own accord, and nothing spoke against going by it.
    pub(crate) fn vouches(&self) -> bool {
        self.vouches.load(Ordering::Relaxed) == YES
    }

    /// It told one, and the right one.
    pub(crate) fn has_vouched(&self) {
        // What was seen to speak against it counts for good.
        let _ = self.vouches.compare_exchange(UNKNOWN, YES, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It told none, or a wrong one, or wants a `Content-MD5`.
    pub(crate) fn does_not_vouch(&self) {
        self.vouches.store(NO, Ordering::Relaxed);
    }

    pub(crate) fn conditions(&self) -> Conditions {
        match self.conditions.load(Ordering::Relaxed) {
            0 => Conditions::Unknown,
            1 => Conditions::Kept,
            _ => Conditions::Ignored,
        }
    }

    pub(crate) fn has_conditions(&self, conditions: Conditions) {
        let number = match conditions {
            Conditions::Unknown => 0,
            Conditions::Kept => 1,
            Conditions::Ignored => 2,
        };
        self.conditions.store(number, Ordering::Relaxed);
    }
}
