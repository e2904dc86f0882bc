//! How many requests a service may be given at once: more while more get answered in a second, fewer when not.
//!
//! Latency alone does not tell a service that is busy from one that moves large objects, so it is the work done in a second that
//! counts: past the point where a service keeps up, more requests in flight only wait longer.

/// Requests in flight at the start.
const START: usize = 32;
/// The fewest that are tried.
const FEWEST: usize = 4;
/// Growth that must show in the work done before more is asked for: a fifth of what was added.
const WORTH: f64 = 0.2;
/// Looks after which a number that proved right is tried again a little higher.
const REST: u32 = 16;

/// A search for the number of requests in flight at which a service does most.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Climb {
    most: usize,
    allowed: usize,
    /// The number before the last step up, and what was done in a second with it.
    before: Option<(usize, f64)>,
    /// True until a step up did not pay: steps double.
    steep: bool,
    resting: u32,
}

impl Climb {
    /// Starts well below `most`, which is never passed.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, allowed: START.min(most), before: None, steep: true, resting: 0 }
    }

    /// Requests in flight that are allowed now.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Takes what was done in a second while all that is allowed was in flight, in any unit; answers what is allowed now.
    pub(super) fn after(&mut self, rate: f64) -> usize {
        if let Some((fewer, then)) = self.before.take() {
            let added = ratio(self.allowed, fewer) - 1.0;
            if rate < then * (1.0 + added * WORTH) {
                self.allowed = fewer;
                self.steep = false;
                self.resting = REST;
                return self.allowed;
            }
        }
        if self.resting > 0 {
            self.resting -= 1;
            return self.allowed;
        }
        let step = if self.steep { self.allowed } else { self.allowed.div_ceil(4) };
        let more = (self.allowed + step).min(self.most);
        if more > self.allowed {
            self.before = Some((self.allowed, rate));
            self.allowed = more;
        }
        self.allowed
    }

    /// The service asked for less: half, and no step up for a while.
    pub(super) fn throttled(&mut self) -> usize {
        self.before = None;
        self.steep = false;
        self.resting = REST;
        self.allowed = (self.allowed / 2).max(FEWEST).min(self.most);
        self.allowed
    }
}

#[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
fn ratio(more: usize, fewer: usize) -> f64 {
    more as f64 / fewer.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers in a second of a service that takes `latency` seconds for a request and does `most` in a second.
    #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
    fn done(in_flight: usize, latency: f64, most: f64) -> f64 {
        let keeps_up = in_flight as f64 / latency;
        // Past its limit a real one does a little less with every request that waits.
        if keeps_up <= most { keeps_up } else { most * (1.0 - 0.02 * (keeps_up / most - 1.0)).max(0.5) }
    }

    fn settled(latency: f64, most: f64) -> usize {
        let mut climb = Climb::new(512);
        for _ in 0..40 {
            let rate = done(climb.allowed(), latency, most);
            climb.after(rate);
        }
        climb.allowed()
    }

    #[test]
    fn a_service_far_away_is_given_as_many_requests_as_it_can_answer() {
        // 30 ms away and 10,000 a second: 300 in flight keep it busy.
        let settled = settled(0.030, 10_000.0);
        assert!((200..=512).contains(&settled), "{settled}");
    }

    #[test]
    fn a_service_that_is_busy_is_not_given_more() {
        // 2 ms away and 2,000 a second: 4 in flight keep it busy, and the start is more than enough.
        assert!(settled(0.002, 2_000.0) <= START * 2);
    }

    #[test]
    fn what_was_asked_for_is_never_passed() {
        let mut climb = Climb::new(8);
        for round in 0..50 {
            assert!(climb.after(f64::from(round) * 100.0) <= 8);
        }
    }

    #[test]
    fn a_complaint_halves_it_and_calm_lets_it_grow_again() {
        let mut climb = Climb::new(256);
        assert_eq!((climb.throttled(), climb.throttled()), (16, 8));
        for _ in 0..REST {
            assert_eq!(climb.after(100.0), 8);
        }
        assert_eq!(climb.after(100.0), 10);
        assert_eq!(climb.after(125.0), 13);
        for _ in 0..10 {
            climb.throttled();
        }
        assert_eq!(climb.allowed(), FEWEST);
    }
}
