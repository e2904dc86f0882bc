//! Faults: what a service or the network does wrong, and to which request.

use tokio::sync::oneshot;

/// Something that goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Status 500 with `InternalError`; not carried out.
    Status500,
    /// Status 503 with `SlowDown`; not carried out.
    Status503SlowDown,
    /// Whatever this service answers when there are too many requests, mostly 503; not carried out.
    Throttled,
    /// Status 200 with an `<Error>` in the body; not carried out.
    ///
    /// Amazon S3 does this to `CopyObject`, `UploadPartCopy` and `CompleteMultipartUpload`, whose
    /// status is sent before the work is done; any other operation gets status 500.
    ErrorInside200,
    /// Status 200 without a body and without header fields; not carried out.
    Empty200,
    /// The connection is closed without an answer; not carried out.
    Reset,
    /// The connection is closed without an answer, after the request was carried out.
    LostAnswer,
    /// The connection is closed after half of the answer's body; carried out.
    ///
    /// An answer without a body is lost.
    CutBody,
    /// Half of the answer's body comes as if it were all of it, as from a proxy that lost its own connection; carried out.
    ///
    /// An answer without a body is lost.
    ShortBody,
    /// Never answered, not carried out.
    Stall,
    /// Never answered, after the request was carried out.
    StallAfter,
}

/// Which requests a fault strikes; requests are counted from the moment the rule is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultAt {
    /// The n-th request, counted from 1; once.
    Nth(u64),
    /// The n-th request and every later one.
    From(u64),
    /// So many requests in a row, from the first-th on.
    Span { first: u64, count: u64 },
    /// The n-th request of one operation, by its S3 name; once.
    Operation { name: String, nth: u64 },
    /// Every k-th request.
    Every(u64),
}

/// The rules that are in force, with what each has seen.
#[derive(Debug, Default)]
pub(crate) struct FaultRules {
    rules: Vec<Rule>,
    fired: u64,
    stops: Vec<(Rule, Option<Stop>)>,
}

/// A request that waits, seen from the outside: it is carried out when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    arrived: oneshot::Receiver<()>,
    /// What ends the wait when it goes.
    _go_on: oneshot::Sender<()>,
}

impl Waiting {
    /// Waits until the request has come; for ever when it does not.
    pub async fn arrived(&mut self) {
        if (&mut self.arrived).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The same seen from the request.
#[derive(Debug)]
pub(crate) struct Stop {
    arrived: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
}

impl Stop {
    /// Says that the request is here and waits until it may go on.
    pub async fn wait(self) {
        // Nobody may care any more, and then there is nothing to wait for.
        let _ = self.arrived.send(());
        let _ = self.go_on.await;
    }
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    at: FaultAt,
    seen: u64,
}

impl FaultRules {
    pub fn add(&mut self, fault: Fault, at: FaultAt) {
        self.rules.push(Rule { fault, at, seen: 0 });
    }

    /// Has one request wait until the answer is dropped.
    pub fn stop(&mut self, at: FaultAt) -> Waiting {
        let ((here, arrived), (let_go, go_on)) = (oneshot::channel(), oneshot::channel());
        let rule = Rule { fault: Fault::Stall, at, seen: 0 };
        self.stops.push((rule, Some(Stop { arrived: here, go_on })));
        Waiting { arrived, _go_on: let_go }
    }

    /// Where the next request is to wait, if it is.
    pub fn stopped(&mut self, operation: &str) -> Option<Stop> {
        let mut found = None;
        for (rule, stop) in &mut self.stops {
            if rule.strikes(operation) {
                found = found.or(stop.take());
            }
        }
        found
    }

    pub fn clear(&mut self) {
        self.rules.clear();
        self.stops.clear();
    }

    /// How many requests have been struck.
    pub fn fired(&self) -> u64 {
        self.fired
    }

    /// Forgets how many requests have been struck.
    pub fn reset_fired(&mut self) {
        self.fired = 0;
    }

    /// The fault that strikes the next request: of several, that of the oldest rule.
    pub fn strike(&mut self, operation: &str) -> Option<Fault> {
        let mut struck = None;
        for rule in &mut self.rules {
            if rule.strikes(operation) {
                struck = struck.or(Some(rule.fault));
            }
        }
        self.fired += u64::from(struck.is_some());
        struck
    }
}

impl Rule {
    fn strikes(&mut self, operation: &str) -> bool {
        if let FaultAt::Operation { name, .. } = &self.at
            && name != operation
        {
            return false;
        }
        self.seen += 1;
        match &self.at {
            FaultAt::Nth(nth) | FaultAt::Operation { nth, .. } => self.seen == *nth,
            FaultAt::From(nth) => self.seen >= *nth,
            FaultAt::Span { first, count } => (*first..first + count).contains(&self.seen),
            FaultAt::Every(every) => self.seen.is_multiple_of(*every),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(at: FaultAt, operations: &[&str]) -> Vec<bool> {
        let mut rules = FaultRules::default();
        rules.add(Fault::Reset, at);
        operations.iter().map(|operation| rules.strike(operation).is_some()).collect()
    }

    #[test]
    fn each_rule_strikes_the_requests_it_names() {
        let (t, f) = (true, false);
        let four = ["A", "B", "A", "A"];
        assert_eq!(struck(FaultAt::Nth(2), &four), [f, t, f, f]);
        assert_eq!(struck(FaultAt::From(3), &four), [f, f, t, t]);
        assert_eq!(struck(FaultAt::Span { first: 2, count: 2 }, &four), [f, t, t, f]);
        assert_eq!(struck(FaultAt::Every(2), &four), [f, t, f, t]);
        let name = "A".to_owned();
        assert_eq!(struck(FaultAt::Operation { name, nth: 2 }, &four), [f, f, t, f]);
    }
}
