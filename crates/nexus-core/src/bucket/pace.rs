//! How fast a service is asked: requests in flight, bytes in memory, and how long to wait before asking again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::climb::Climb;

/// Named limits on what is asked of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight at most; how many there are is found out, below it.
    pub in_flight: usize,
    /// How often one request is tried before its failure counts.
    pub attempts: u32,
    /// The first wait before another try; it doubles each time, with full jitter, up to [`Limits::LONGEST_WAIT`].
    pub first_wait: Duration,
    /// How long one try may go without progress.
    pub patience: Duration,
    /// How long a service may go on asking for less before that counts as a failure, however often it was tried.
    pub throttled_for: Duration,
    /// Bytes of file content held in memory at most, over all requests.
    pub memory: usize,
    /// Bytes of content a second that go through this machine at most, to the service and from it; none is no limit.
    pub bandwidth: Option<u64>,
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
            in_flight: 256,
            attempts: 8,
            first_wait: Duration::from_millis(100),
            patience: Duration::from_mins(1),
            throttled_for: Duration::from_mins(2),
            // Pieces of odd sizes that are freed stay with the process for a while: at the peak it has three times as much.
            memory: 32 * 1024 * 1024,
            bandwidth: None,
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
    files: Semaphore,
    reading: Semaphore,
    flow: Mutex<Flow>,
    /// When the next byte may go through this machine.
    next_byte: Mutex<Option<Instant>>,
    asked: AtomicU64,
    dice: AtomicU64,
}

/// What was done lately, and what is allowed by it.
#[derive(Debug)]
struct Flow {
    climb: Climb,
    /// Permits that are there, busy ones included.
    given: usize,
    /// Busy permits that go when their requests end.
    owed: usize,
    /// When the service last asked for less.
    cut: Option<Instant>,
    since: Instant,
    answers: usize,
    work: f64,
    /// True once a request waited for its turn: else more would not have been in flight anyway.
    full: bool,
}

/// One request in flight.
#[derive(Debug)]
pub(crate) struct InFlight<'a> {
    pace: &'a Pace,
    permit: Option<SemaphorePermit<'a>>,
    begun: Instant,
}

/// Answers that one look at the work done takes at least.
const LOOK: usize = 64;
/// A request counts as one unit of work, and as one more for each of so many bytes that were moved for it.
const UNIT_OF_WORK: f64 = 1024.0 * 1024.0;
/// Files that are read and hashed at once before they are sent: of the few threads that do so some are left for what is being
/// sent.
const READING: usize = 2;
/// Memory is counted in these units, so that the semaphore's numbers stay small.
const UNIT: usize = 1_024;

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        if let Ok(mut flow) = self.pace.flow.lock()
            && flow.owed > 0
        {
            flow.owed -= 1;
            flow.given -= 1;
            permit.forget();
        }
    }
}

impl InFlight<'_> {
    /// The service did what it was asked, and moved so many bytes for it.
    pub(crate) fn answered(&self, bytes: u64) {
        let mut flow = self.pace.lock();
        flow.answers += 1;
        #[expect(clippy::cast_precision_loss, reason = "a measure, not a count")]
        let moved = bytes as f64 / UNIT_OF_WORK;
        flow.work += 1.0 + moved;
        if flow.answers < LOOK.max(flow.climb.allowed() * 2) {
            return;
        }
        let rate = flow.work / flow.since.elapsed().as_secs_f64().max(1e-6);
        if flow.full {
            let allowed = flow.climb.after(rate);
            self.pace.allow(&mut flow, allowed);
        }
        flow.start_over();
    }

    /// The service asked for less. Those that were in flight already when it last did say nothing new.
    pub(crate) fn throttled(&self) {
        let mut flow = self.pace.lock();
        if flow.cut.is_some_and(|cut| self.begun < cut) {
            return;
        }
        flow.cut = Some(Instant::now());
        let allowed = flow.climb.throttled();
        self.pace.allow(&mut flow, allowed);
        flow.start_over();
    }
}

impl Flow {
    fn start_over(&mut self) {
        (self.since, self.answers, self.work, self.full) = (Instant::now(), 0, 0.0, false);
    }
}

impl Pace {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        let climb = Climb::new(limits.in_flight);
        let given = climb.allowed();
        let since = Instant::now();
        let flow = Flow { climb, given, owed: 0, cut: None, since, answers: 0, work: 0.0, full: false };
        Self {
            requests: Semaphore::new(given),
            memory: Semaphore::new((limits.memory / UNIT).max(1)),
            files: Semaphore::new(limits.in_flight.max(1)),
            reading: Semaphore::new(READING),
            flow: Mutex::new(flow),
            next_byte: Mutex::new(None),
            asked: AtomicU64::new(0),
            dice: AtomicU64::new(seed | 1),
            limits,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more request may be in flight.
    pub(crate) async fn request(&self) -> InFlight<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.requests.available_permits() == 0 {
            self.lock().full = true;
        }
        let permit = self.requests.acquire().await.expect("this semaphore is never closed");
        InFlight { pace: self, permit: Some(permit), begun: Instant::now() }
    }

    /// Has so many requests in flight from now on: idle permits go at once, busy ones when their requests end.
    fn allow(&self, flow: &mut Flow, allowed: usize) {
        let now = flow.given - flow.owed;
        if allowed >= now {
            let kept = flow.owed.min(allowed - now);
            flow.owed -= kept;
            let more = allowed - now - kept;
            self.requests.add_permits(more);
            flow.given += more;
        } else {
            let gone = self.requests.forget_permits(now - allowed);
            flow.given -= gone;
            flow.owed += now - allowed - gone;
        }
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

    /// Waits until one more file may be open to be sent: no more of them than requests in flight at most.
    pub(crate) async fn file(&self) -> SemaphorePermit<'_> {
        self.files.acquire().await.expect("this semaphore is never closed")
    }

    /// Waits until one more file may be read and hashed.
    pub(crate) async fn reading(&self) -> SemaphorePermit<'_> {
        self.reading.acquire().await.expect("this semaphore is never closed")
    }

    /// Waits until `bytes` of content may go through this machine.
    pub(crate) async fn through(&self, bytes: u64) {
        if let Some(limit) = self.limits.bandwidth {
            tokio::time::sleep_until(self.turn(bytes, limit, Instant::now()).into()).await;
        }
    }

    /// When `bytes` may go through, asked for at `now`; what comes later waits until they have gone.
    fn turn(&self, bytes: u64, limit: u64, now: Instant) -> Instant {
        let mut next = self.next_byte.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        #[expect(clippy::cast_precision_loss, reason = "a span of time, not a count")]
        let span = Duration::from_secs_f64(bytes as f64 / limit.max(1) as f64);
        *next = Some(turn + span);
        turn
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

    #[tokio::test]
    async fn pressure_halves_what_is_in_flight_once_for_all_that_were_there() {
        let pace = Pace::new(Limits { in_flight: 8, ..Limits::default() }, 7);
        let busy = [pace.request().await, pace.request().await, pace.request().await, pace.request().await];
        let more = [pace.request().await, pace.request().await];
        for one in &busy {
            one.throttled();
        }
        // Two permits were idle and go at once, two go with the first requests that end.
        assert_eq!((pace.requests.available_permits(), pace.lock().owed), (0, 2));
        drop(more);
        assert_eq!((pace.requests.available_permits(), pace.lock().owed), (0, 0));
        drop(busy);
        assert_eq!(pace.requests.available_permits(), 4);
    }

    #[tokio::test]
    async fn what_a_service_keeps_up_with_is_found_out_and_never_passes_the_limit() {
        let pace = Pace::new(Limits { in_flight: 64, ..Limits::default() }, 7);
        assert_eq!(pace.requests.available_permits(), 32);
        for _ in 0..4_000 {
            pace.lock().full = true;
            pace.request().await.answered(0);
        }
        let permits = pace.requests.available_permits();
        assert!((4..=64).contains(&permits), "{permits}");
        assert_eq!(pace.lock().given, permits);
    }

    #[test]
    fn content_goes_through_no_faster_than_was_asked_for() {
        let pace = Pace::new(Limits::default(), 7);
        let begun = Instant::now();
        let turn = |bytes, later| pace.turn(bytes, 1_000, begun + Duration::from_secs(later)) - begun;
        assert_eq!((turn(2_000, 0), turn(3_000, 1)), (Duration::ZERO, Duration::from_secs(2)));
        assert_eq!((turn(1_000, 1), turn(1, 60)), (Duration::from_secs(5), Duration::from_mins(1)));
    }
}
