//! How fast a service is asked: requests in flight, bytes in memory, and how long to wait before asking again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Named limits on what is asked of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight at most.
    pub in_flight: usize,
    /// How often one request is tried before its failure counts.
    pub attempts: u32,
    /// The first wait before another try; it doubles each time, with full jitter, up to [`Limits::LONGEST_WAIT`].
    pub first_wait: Duration,
    /// How long one try may go without progress.
    pub patience: Duration,
    /// Bytes of file content held in memory at most, over all requests.
    pub memory: usize,
    /// Objects larger than this are copied in parts. S3 refuses single copies of more than 5 GiB
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>).
    pub copy_cutoff: u64,
}

impl Limits {
    /// No wait between two tries is longer.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(20);
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 128,
            attempts: 8,
            first_wait: Duration::from_millis(100),
            patience: Duration::from_mins(1),
            memory: 48 * 1024 * 1024,
            copy_cutoff: 4_768 * 1024 * 1024,
        }
    }
}

/// Keeps to the limits over all requests to one service.
#[derive(Debug)]
pub(crate) struct Pace {
    pub(crate) limits: Limits,
    requests: Semaphore,
    memory: Semaphore,
    /// Permits taken out of `requests` because the service asked for less.
    withheld: Mutex<usize>,
    calm: AtomicU64,
    asked: AtomicU64,
    dice: AtomicU64,
}

/// Answers in a row without a complaint before one more request is let in flight.
const CALM: u64 = 200;
/// Memory is counted in these units, so that the semaphore's numbers stay small.
const UNIT: usize = 1_024;

impl Pace {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            requests: Semaphore::new(limits.in_flight.max(1)),
            memory: Semaphore::new((limits.memory / UNIT).max(1)),
            withheld: Mutex::new(0),
            calm: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            dice: AtomicU64::new(seed | 1),
            limits,
        }
    }

    /// Waits until one more request may be in flight.
    pub(crate) async fn request(&self) -> SemaphorePermit<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.requests.acquire().await.expect("this semaphore is never closed")
    }

    /// Requests that were made so far, those that failed included.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` of content may be held; more than the whole limit counts as the whole limit.
    pub(crate) async fn memory(&self, bytes: u64) -> SemaphorePermit<'_> {
        let whole = (self.limits.memory / UNIT).max(1);
        let units = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(UNIT).clamp(1, whole);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.memory.acquire_many(units).await.expect("this semaphore is never closed")
    }

    /// The service asked for less: half of what is in flight is withheld.
    pub(crate) fn throttled(&self) {
        self.calm.store(0, Ordering::Relaxed);
        let mut withheld = self.withheld.lock().expect("nobody panics while holding this lock");
        let allowed = self.limits.in_flight.max(1) - *withheld;
        let fewer = allowed / 2;
        // Only idle permits can be withheld now; busy ones are when the next complaint comes.
        *withheld += self.requests.forget_permits(fewer);
    }

    /// The service answered: after enough of these, one more request is let in flight again.
    pub(crate) fn answered(&self) {
        if self.calm.fetch_add(1, Ordering::Relaxed) % CALM != CALM - 1 {
            return;
        }
        let mut withheld = self.withheld.lock().expect("nobody panics while holding this lock");
        if *withheld > 0 {
            *withheld -= 1;
            self.requests.add_permits(1);
        }
    }

    /// How long to wait before try number `tried + 1`: full jitter over a doubling span.
    pub(crate) fn wait(&self, tried: u32) -> Duration {
        let span = self.limits.first_wait.saturating_mul(1 << tried.min(16)).min(Limits::LONGEST_WAIT);
        // SplitMix64: jitter needs spread, not secrecy.
        let mut dice = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        dice = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        dice = (dice ^ (dice >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = (dice ^ (dice >> 31)) >> 48;
        span.mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / 65_536.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        let pace = Pace::new(Limits::default(), 7);
        for tried in 0..40 {
            assert!(pace.wait(tried) <= Limits::LONGEST_WAIT);
        }
    }

    #[test]
    fn pressure_halves_what_is_in_flight_and_calm_gives_it_back() {
        let pace = Pace::new(Limits { in_flight: 8, ..Limits::default() }, 7);
        pace.throttled();
        assert_eq!(pace.requests.available_permits(), 4);
        for _ in 0..CALM * 4 {
            pace.answered();
        }
        assert_eq!(pace.requests.available_permits(), 8);
    }
}
