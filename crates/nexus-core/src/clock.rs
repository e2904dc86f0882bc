//! The clock and the source of nonces, handed in: nothing in this crate reads the machine's own.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

/// What time it is, and names that nobody else has.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    nonce: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Clock {
    /// A clock from two functions; nonces are short texts of `[a-z0-9]`, new at each call.
    pub fn new(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        nonce: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        Self { now: Arc::new(now), nonce: Arc::new(nonce) }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// A new nonce.
    pub fn nonce(&self) -> String {
        (self.nonce)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
