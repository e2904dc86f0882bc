//! The protocol of docs/pruning.md as a small machine whose every order of steps is tried, with kills and jumps of time.
//!
//! It knows nothing of the code: it says whether the protocol holds, and that each of its steps is needed.

use std::collections::HashSet;

/// Points 0 to 2 are there at first, 3 and 4 are what backups make.
const POINTS: usize = 5;
const PRUNES: usize = 3;
/// The prune that runs when all others have ended.
const LAST: usize = 2;

type Set = u16;

fn has(set: Set, at: usize) -> bool {
    set & (1 << at) != 0
}

fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..16).filter(move |at| has(set, *at))
}

/// The two copies in a point's folder: of the file that never changes, and of the one that always does.
fn folder(point: usize) -> Set {
    0b11 << (2 * point)
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Manifest {
    None,
    Committed,
    Abandoned,
}

#[expect(clippy::struct_excessive_bools, reason = "each is one object that is there or not")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Point {
    started: bool,
    manifest: Manifest,
    names: Set,
    reuses: Option<usize>,
    alive: u16,
    /// When it was given up, if it was.
    given_up: u16,
    /// By which prunes it is announced.
    expiring: Set,
    expired: bool,
    held: bool,
    pinned: bool,
}

impl Point {
    fn stands(&self) -> bool {
        self.manifest == Manifest::Committed && !self.expired
    }
    fn going(&self) -> bool {
        self.expiring != 0 || self.expired || self.manifest != Manifest::Committed
    }
    fn open(&self) -> bool {
        self.started && self.manifest == Manifest::None
    }
    fn broken_off(&self) -> bool {
        self.open() && self.expiring != 0
    }
    fn silent(&self, now: u16) -> bool {
        self.open() && self.expiring == 0 && now - self.alive > 24
    }
    fn runs(&self, now: u16) -> bool {
        self.open() && self.expiring == 0 && now - self.alive <= 24
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Backup {
        id: usize,
        base: usize,
    },
    /// `over` is what its own rules let go; `parts` if only the files of a point go.
    Prune {
        id: usize,
        over: Set,
        parts: bool,
    },
    /// A backup that goes on from one that broke off.
    Heir {
        id: usize,
        of: usize,
    },
    Restore {
        point: usize,
    },
    Pin {
        point: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    kind: Kind,
    at: u8,
    ended: bool,
    /// Backup: the base is taken. Restore and pin: what they depend on is theirs.
    sure: bool,
    plan: Set,
    todo: Set,
    going: Set,
    gone: Set,
    silent: Set,
    swept: Set,
    protects: Set,
    /// Prune: claims whose copies a running backup may use.
    inherited: Set,
    checked: bool,
}

impl Actor {
    fn new(kind: Kind) -> Self {
        let none = 0;
        Self {
            kind,
            at: 0,
            ended: false,
            sure: false,
            plan: none,
            todo: none,
            going: none,
            gone: none,
            silent: none,
            swept: none,
            protects: none,
            inherited: none,
            checked: false,
        }
    }

    /// An actor that has ended: of it only what it came to matters.
    fn forgotten(self) -> Self {
        let sure = self.sure && matches!(self.kind, Kind::Pin { .. });
        Self { ended: true, sure, ..Self::new(self.kind) }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    points: [Point; POINTS],
    copies: Set,
    announced_at: [u16; PRUNES],
    now: u16,
    actors: Vec<Actor>,
    kills: u8,
    jumps: u8,
}

/// What is left out of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    BackupLooksAgain,
    HoldLooks,
    PruneLooksAgain,
    Announcing,
    AnnouncedCountForNothing,
    Reuses,
    ManifestFirst,
    AbandonedCheck,
    Tombstone,
    GivingWay,
    AtomicRemoval,
    LookingAgainAtWhatIsLeft,
    Sparing,
}

impl State {
    /// What may go by what is seen now: rules, then `keep-last 1`, then holds, pins and running claims.
    fn decide(&self, over: Set, without: Without) -> Set {
        let stands = |at: &usize| self.points[*at].stands();
        let counts =
            |at: &usize| stands(at) && (without == Without::AnnouncedCountForNothing || self.points[*at].expiring == 0);
        // Each is held against the others that nobody has announced: without one that its rules keep, or a newer one, it stays.
        let mut doomed = 0;
        for at in (0..POINTS).filter(stands).filter(|at| has(over, *at)) {
            if (0..POINTS).filter(counts).any(|other| other > at || !has(over, other)) {
                doomed |= 1 << at;
            }
        }
        for at in 0..POINTS {
            let point = &self.points[at];
            if point.held || point.pinned {
                doomed &= !(1 << at);
            }
            if point.runs(self.now)
                && without != Without::Reuses
                && let Some(base) = point.reuses
            {
                doomed &= !(1 << base);
            }
        }
        doomed
    }

    fn step(&mut self, which: usize, without: Without) {
        let mut actor = self.actors[which];
        match actor.kind {
            Kind::Backup { id, base } => self.back_up(&mut actor, id, base, without),
            Kind::Prune { id, over, parts } => {
                self.prune(&mut actor, id, over, parts, without);
                // What touches nothing that others see is no step of its own.
                while matches!(actor.at, 1 | 4 | 5 | 7) && actor.todo == 0 && !actor.ended {
                    self.prune(&mut actor, id, over, parts, without);
                }
            }
            Kind::Heir { id, of } => self.inherit(&mut actor, id, of, without),
            Kind::Restore { point } => self.restore(&mut actor, point, without),
            Kind::Pin { point } => self.pin(&mut actor, point, without),
        }
        self.actors[which] = if actor.ended { actor.forgotten() } else { actor };
    }

    fn back_up(&mut self, me: &mut Actor, id: usize, base: usize, without: Without) {
        let base_there = !self.points[base].going();
        match me.at {
            0 => me.sure = base_there,
            1 => {
                let point = &mut self.points[id];
                (point.started, point.alive, point.reuses) = (true, self.now, me.sure.then_some(base));
            }
            2 => me.sure &= base_there || without == Without::BackupLooksAgain,
            3 => {
                let (mine, theirs) = (folder(id), self.points[base].names & 0b01_0101_0101);
                let (copied, named) = if me.sure { (mine & 0b10_1010_1010, theirs) } else { (mine, 0) };
                self.copies |= copied;
                self.points[id].names = copied | named;
            }
            4 => {
                let lost = self.points[id].names & !self.copies & !folder(id);
                if lost != 0 {
                    self.copies |= folder(id);
                    self.points[id].names = folder(id);
                }
            }
            5 => me.ended = self.now - self.points[id].alive > 12,
            _ => {
                let point = &mut self.points[id];
                if point.manifest == Manifest::None || without == Without::AbandonedCheck {
                    point.manifest = Manifest::Committed;
                }
                me.ended = true;
            }
        }
        me.at += 1;
    }

    /// True when the copies of a claim without a point may be used: nobody has ended it and it is over, or it was given up lately.
    fn is_left(&self, of: usize) -> bool {
        let point = &self.points[of];
        let runs = |actor: &Actor| !actor.ended && matches!(actor.kind, Kind::Backup { id, .. } if id == of);
        let over = !self.actors.iter().any(runs) || self.now - point.alive > 12;
        match point.manifest {
            Manifest::None => point.open() && point.expiring == 0 && over,
            Manifest::Abandoned => self.now - point.given_up < 36,
            Manifest::Committed => false,
        }
    }

    fn inherit(&mut self, me: &mut Actor, id: usize, of: usize, without: Without) {
        match me.at {
            0 => me.sure = self.is_left(of),
            1 => {
                let point = &mut self.points[id];
                (point.started, point.alive, point.reuses) = (true, self.now, me.sure.then_some(of));
            }
            2 => {
                me.sure &= self.is_left(of) || without == Without::LookingAgainAtWhatIsLeft;
                let (now, point) = (self.now, &mut self.points[of]);
                if me.sure && point.manifest == Manifest::None {
                    (point.manifest, point.given_up) = (Manifest::Abandoned, now);
                }
            }
            3 => {
                let there = self.copies & folder(of) & 0b01_0101_0101;
                let used = if me.sure { there } else { 0 };
                let copied = folder(id) & if used == 0 { !0 } else { 0b10_1010_1010 };
                self.copies |= copied;
                self.points[id].names = copied | used;
            }
            // It is seen that all it names is there, then committed, as any other backup.
            _ => self.back_up(me, id, of, without),
        }
        if me.at < 4 {
            me.at += 1;
        }
    }

    fn restore(&mut self, me: &mut Actor, point: usize, without: Without) {
        match me.at {
            0 => self.points[point].held = true,
            1 => me.sure = !self.points[point].going() || without == Without::HoldLooks,
            2 if me.sure => {}
            _ => {
                (self.points[point].held, me.sure, me.ended) = (false, false, true);
            }
        }
        me.at += 1;
    }

    fn pin(&mut self, me: &mut Actor, point: usize, without: Without) {
        match me.at {
            0 => self.points[point].pinned = true,
            1 => me.sure = !self.points[point].going() || without == Without::HoldLooks,
            _ => {
                self.points[point].pinned = me.sure;
                me.ended = true;
            }
        }
        me.at += 1;
    }

    fn look(&self, me: &mut Actor, over: Set, without: Without) -> Set {
        let doomed = self.decide(over, without);
        (me.silent, me.gone, me.swept, me.protects, me.inherited) = (0, 0, 0, 0, 0);
        for point in self.points.iter().filter(|point| point.runs(self.now) && without != Without::Reuses) {
            me.inherited |= point.reuses.map_or(0, |of| 1 << of);
        }
        for at in 0..POINTS {
            let point = &self.points[at];
            let old = self.now - point.given_up > 48 || without == Without::Sparing;
            let given_up = point.manifest == Manifest::Abandoned && old && !has(me.inherited, at);
            if point.stands() || point.expired || point.broken_off() || given_up {
                me.swept |= folder(at);
            }
            if point.broken_off() {
                me.gone |= 1 << at;
            }
            if point.silent(self.now) {
                me.silent |= 1 << at;
            }
            if point.stands() {
                me.protects |= point.names;
            }
        }
        doomed
    }

    fn take_back(&mut self, id: usize, at: usize) {
        self.points[at].expiring &= !(1 << id);
    }

    #[expect(clippy::too_many_lines, reason = "the steps of one actor, in their order")]
    fn prune(&mut self, me: &mut Actor, id: usize, over: Set, parts: bool, without: Without) {
        match me.at {
            0 => {
                me.plan = self.look(me, over, without);
                self.announced_at[id] = self.now;
                me.todo = if without == Without::Announcing { 0 } else { me.plan };
            }
            1 => {
                if let Some(at) = members(me.todo).next() {
                    self.points[at].expiring |= 1 << id;
                    me.todo &= !(1 << at);
                    return;
                }
            }
            2 => {
                me.going = me.plan;
                if without != Without::PruneLooksAgain {
                    me.going &= self.look(me, over, without);
                }
                me.protects = 0;
                for at in 0..POINTS {
                    if self.points[at].stands() && !has(me.going, at) {
                        me.protects |= self.points[at].names;
                    }
                }
                me.todo = me.plan & !me.going;
            }
            3 => {
                if let Some(at) = members(me.todo).next() {
                    self.take_back(id, at);
                    me.todo &= !(1 << at);
                    return;
                }
                self.take_back_stale(me.going);
                me.todo = me.silent;
            }
            4 => {
                if let Some(at) = members(me.todo).next() {
                    me.todo &= !(1 << at);
                    let (now, point) = (self.now, &mut self.points[at]);
                    match point.manifest {
                        // What it copied stays for whoever goes on from it.
                        Manifest::None => (point.manifest, point.given_up) = (Manifest::Abandoned, now),
                        Manifest::Abandoned => {}
                        Manifest::Committed if without == Without::GivingWay => {}
                        Manifest::Committed => (me.at, me.todo) = (9, me.going),
                    }
                    return;
                }
                me.todo = if without == Without::ManifestFirst { 0 } else { me.going };
            }
            5 | 7 => {
                if let Some(at) = members(me.todo).next() {
                    if self.late(me, id, without) {
                        return;
                    }
                    self.end_point(me, at, parts);
                    me.todo &= !(1 << at);
                    return;
                }
                if me.at == 7 {
                    me.todo = me.gone;
                }
            }
            6 => {
                if let Some(copy) = members(self.copies & me.swept & !me.protects).next() {
                    if self.late(me, id, without) {
                        return;
                    }
                    self.copies &= !(1 << copy);
                    return;
                }
                me.todo = if without == Without::ManifestFirst { me.going } else { 0 };
                if without == Without::Tombstone {
                    for at in 0..POINTS {
                        let point = &mut self.points[at];
                        if point.manifest == Manifest::Abandoned {
                            (point.manifest, point.started) = (Manifest::None, false);
                        }
                    }
                }
            }
            8 => {
                if let Some(at) = members(me.todo).next() {
                    let point = &mut self.points[at];
                    let left = self.copies & folder(at) != 0 || !point.open();
                    if left || point.expiring == 0 {
                        point.started &= left;
                        me.todo &= !(1 << at);
                    } else {
                        (point.expiring, point.held, point.pinned) = (0, false, false);
                    }
                    return;
                }
                me.ended = true;
            }
            _ => {
                // It gives way, or came too late: what is not begun is taken back.
                for at in members(me.todo) {
                    if self.points[at].stands() {
                        self.take_back(id, at);
                    }
                }
                me.ended = true;
            }
        }
        me.at += 1;
    }

    fn take_back_stale(&mut self, mine: Set) {
        for other in 0..PRUNES {
            if self.now - self.announced_at[other] > 24 {
                for (at, point) in self.points.iter_mut().enumerate() {
                    if !has(mine, at) && point.stands() {
                        point.expiring &= !(1 << other);
                    }
                }
            }
        }
    }

    fn end_point(&mut self, me: &mut Actor, at: usize, parts: bool) {
        let point = &mut self.points[at];
        if parts {
            point.expired = true;
        } else {
            if point.manifest == Manifest::Committed {
                point.manifest = Manifest::None;
            }
            me.gone |= 1 << at;
        }
    }

    /// Looks at the clock before a removal. Together with the removal that is one step, unless that is left out.
    fn late(&self, me: &mut Actor, id: usize, without: Without) -> bool {
        if without == Without::AtomicRemoval && me.checked {
            me.checked = false;
            return false;
        }
        if self.now - self.announced_at[id] > 12 {
            (me.at, me.todo) = (9, me.going);
            return true;
        }
        me.checked = without == Without::AtomicRemoval;
        me.checked
    }

    fn wrong(&self) -> Option<String> {
        for (at, point) in self.points.iter().enumerate() {
            if point.stands() && point.names & !self.copies != 0 {
                return Some(format!("point {at} names a copy that is gone"));
            }
        }
        if !self.points.iter().any(Point::stands) {
            return Some("fewer points than keep-last".to_owned());
        }
        for actor in &self.actors {
            if let Kind::Restore { point } | Kind::Pin { point } = actor.kind
                && actor.sure
                && !self.points[point].stands()
            {
                return Some(format!("point {point} was held or pinned and is gone"));
            }
        }
        None
    }

    /// Two more prunes, eight days later and as many again, alone: the first gives up what the second removes.
    fn orphans(&self, without: Without) -> Option<String> {
        let mut state = self.clone();
        for point in &mut state.points {
            point.held = false;
        }
        for _ in 0..2 {
            state.now += 8 * 24;
            let kept = state.points.iter().rposition(|point| point.stands() && point.expiring == 0);
            let over = 0b1_1111 & !kept.map_or(0, |at| 1 << at);
            state.actors = vec![Actor::new(Kind::Prune { id: LAST, over, parts: false })];
            while !state.actors[0].ended {
                state.step(0, without);
                if let Some(wrong) = state.wrong() {
                    return Some(format!("in the prune that came last: {wrong}"));
                }
            }
        }
        let named = state.points.iter().filter(|point| point.stands()).fold(0, |all, point| all | point.names);
        (state.copies & !named != 0).then(|| format!("orphans {:b}", state.copies & !named))
    }
}

/// Point 1 reuses a copy of point 0, point 2 has its own. All are years old.
fn vault(kinds: &[Kind], kills: u8, jumps: u8) -> State {
    let none = Point {
        started: false,
        manifest: Manifest::None,
        names: 0,
        reuses: None,
        alive: 0,
        given_up: 0,
        expiring: 0,
        expired: false,
        held: false,
        pinned: false,
    };
    let made = |names| Point { started: true, manifest: Manifest::Committed, names, ..none };
    State {
        points: [made(0b11), made(0b1001), made(0b11_0000), none, none],
        copies: 0b11_1011,
        announced_at: [0; PRUNES],
        now: 0,
        actors: kinds.iter().copied().map(Actor::new).collect(),
        kills,
        jumps,
    }
}

/// The same, with the claim of a backup that was killed when it had copied all, or that was given up then.
fn with_left(kinds: &[Kind], given_up: bool, jumps: u8) -> State {
    let mut state = vault(kinds, 1, jumps);
    let manifest = if given_up { Manifest::Abandoned } else { Manifest::None };
    state.points[3] = Point { started: true, manifest, names: 0, ..state.points[3] };
    state.copies |= folder(3);
    state
}

/// Tries every order; answers how many states there are, or what goes wrong first that begins with these words.
fn explore(start: State, without: Without, wanted: &str) -> Result<usize, String> {
    let (mut seen, mut open) = (HashSet::new(), vec![start]);
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        if let Some(wrong) = state.wrong() {
            if wrong.starts_with(wanted) {
                return Err(format!("{wrong}: {state:?}"));
            }
            continue;
        }
        if state.actors.iter().all(|actor| actor.ended) {
            if let Some(wrong) = state.orphans(without).filter(|wrong| wrong.starts_with(wanted)) {
                return Err(format!("{wrong}: {state:?}"));
            }
            continue;
        }
        for which in (0..state.actors.len()).filter(|which| !state.actors[*which].ended) {
            let mut next = state.clone();
            next.step(which, without);
            open.push(next);
            if state.kills > 0 {
                let mut next = state.clone();
                // A restore that is killed reads no more; a pin that was confirmed is still one.
                let pins = matches!(next.actors[which].kind, Kind::Pin { .. });
                next.actors[which].sure &= pins;
                next.actors[which] = next.actors[which].forgotten();
                next.kills -= 1;
                open.push(next);
            }
        }
        if state.jumps > 0 {
            for hours in [13, 25] {
                let mut next = state.clone();
                (next.now, next.jumps) = (next.now + hours, next.jumps - 1);
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

const BACKUP: Kind = Kind::Backup { id: 3, base: 1 };
const OTHER_BACKUP: Kind = Kind::Backup { id: 4, base: 0 };
const HEIR: Kind = Kind::Heir { id: 4, of: 3 };
const PRUNE: Kind = Kind::Prune { id: 0, over: 0b011, parts: false };
const OF_PARTS: Kind = Kind::Prune { id: 0, over: 0b011, parts: true };
/// Of a machine with other rules.
const OTHER_PRUNE: Kind = Kind::Prune { id: 1, over: 0b100, parts: false };
const SAME_PRUNE: Kind = Kind::Prune { id: 1, over: 0b011, parts: false };
const RESTORE: Kind = Kind::Restore { point: 1 };
const PIN: Kind = Kind::Pin { point: 1 };

/// Every pair, and those of three that meet at one point.
fn meetings() -> Vec<Vec<Kind>> {
    let all = [BACKUP, OTHER_BACKUP, PRUNE, OF_PARTS, OTHER_PRUNE, SAME_PRUNE, RESTORE, PIN];
    let same = |left: &Kind, right: &Kind| matches!((left, right), (Kind::Prune { id, .. }, Kind::Prune { id: other, .. }) if id == other);
    let mut meetings = Vec::new();
    for (at, left) in all.iter().enumerate() {
        for right in all[at + 1..].iter().filter(|right| !same(left, right)) {
            meetings.push(vec![*left, *right]);
        }
    }
    meetings
}

/// The damage that these do when a step is left out.
fn hole(without: Without, kinds: &[Kind], wanted: &str) -> bool {
    explore(vault(kinds, 1, 2), without, wanted).is_err()
}

#[test]
fn no_order_of_any_two_with_a_kill_and_two_sleeps_loses_anything() {
    for kinds in meetings() {
        let states =
            explore(vault(&kinds, 1, 2), Without::Nothing, "").unwrap_or_else(|wrong| panic!("{kinds:?}: {wrong}"));
        assert!(states > 20, "{kinds:?}: {states}");
    }
}

#[test]
fn no_order_of_a_backup_two_prunes_and_one_who_reads_loses_anything() {
    let meetings = [
        [BACKUP, PRUNE, OTHER_PRUNE],
        [BACKUP, PRUNE, SAME_PRUNE],
        [RESTORE, PRUNE, OTHER_PRUNE],
        [PIN, OF_PARTS, SAME_PRUNE],
        [BACKUP, OTHER_BACKUP, PRUNE],
    ];
    for kinds in meetings {
        explore(vault(&kinds, 0, 0), Without::Nothing, "").unwrap_or_else(|wrong| panic!("{kinds:?}: {wrong}"));
    }
}

#[test]
fn no_order_of_a_backup_that_goes_on_and_prunes_loses_anything() {
    let meetings: [&[Kind]; 5] =
        [&[HEIR, PRUNE], &[HEIR, OF_PARTS], &[HEIR, BACKUP], &[HEIR, RESTORE], &[HEIR, OTHER_PRUNE]];
    for kinds in meetings {
        for given_up in [false, true] {
            let start = || with_left(kinds, given_up, 4);
            let states = explore(start(), Without::Nothing, "").unwrap_or_else(|wrong| panic!("{kinds:?}: {wrong}"));
            assert!(states > 20, "{kinds:?}: {states}");
        }
    }
    // Of one that runs, or is killed, meanwhile.
    for (kills, jumps) in [(1, 0), (0, 1)] {
        explore(vault(&[HEIR, BACKUP, PRUNE], kills, jumps), Without::Nothing, "")
            .unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    for given_up in [false, true] {
        explore(with_left(&[HEIR, PRUNE, SAME_PRUNE], given_up, 1), Without::Nothing, "")
            .unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn a_backup_that_goes_on_and_leaves_out_a_step_names_copies_that_are_gone() {
    for without in [Without::LookingAgainAtWhatIsLeft, Without::Sparing] {
        let start = with_left(&[HEIR, PRUNE], true, 4);
        let found = explore(start, without, "point 4 names a copy that is gone");
        assert!(found.is_err(), "nothing is lost without {without:?}");
    }
}

#[test]
fn a_backup_that_does_not_look_at_the_journal_after_its_claim_loses_copies() {
    assert!(hole(Without::BackupLooksAgain, &[BACKUP, PRUNE], "point 3 names a copy that is gone"));
}

#[test]
fn a_hold_or_a_pin_that_does_not_look_loses_its_point() {
    for kind in [RESTORE, PIN] {
        assert!(hole(Without::HoldLooks, &[kind, PRUNE], "point 1 was held or pinned and is gone"));
    }
}

#[test]
fn a_prune_that_does_not_look_again_loses_copies() {
    assert!(hole(Without::PruneLooksAgain, &[BACKUP, PRUNE], "point 3 names a copy that is gone"));
}

#[test]
fn a_prune_that_does_not_announce_loses_copies() {
    assert!(hole(Without::Announcing, &[BACKUP, PRUNE], "point 3 names a copy that is gone"));
}

#[test]
fn announced_points_that_count_towards_keep_last_leave_none() {
    assert!(hole(Without::AnnouncedCountForNothing, &[PRUNE, OTHER_PRUNE], "fewer points than keep-last"));
}

#[test]
fn a_prune_that_passes_over_what_claims_reuse_loses_copies() {
    assert!(hole(Without::Reuses, &[BACKUP, PRUNE], "point 3 names a copy that is gone"));
}

#[test]
fn copies_that_go_before_the_manifest_leave_a_point_without_them() {
    assert!(hole(Without::ManifestFirst, &[PRUNE, SAME_PRUNE], "point 0 names a copy that is gone"));
}

#[test]
fn a_commit_that_does_not_see_that_it_was_given_up_names_copies_that_are_gone() {
    assert!(hole(Without::AbandonedCheck, &[BACKUP, PRUNE], "point 3 names a copy that is gone"));
}

#[test]
fn a_word_of_giving_up_that_is_removed_at_once_lets_a_late_commit_through() {
    assert!(hole(Without::Tombstone, &[BACKUP, PRUNE], "point 3 names a copy that is gone"));
}

#[test]
fn a_prune_that_goes_on_when_a_silent_claim_was_committed_after_all_loses_copies() {
    assert!(hole(Without::GivingWay, &[BACKUP, PRUNE], "point 3 names a copy that is gone"));
}

#[test]
fn a_removal_that_sleeps_for_half_a_day_after_its_look_at_the_clock_is_beyond_what_the_protocol_bears() {
    assert!(
        explore(
            vault(&[PIN, PRUNE, OTHER_PRUNE], 0, 1),
            Without::AtomicRemoval,
            "point 1 was held or pinned and is gone"
        )
        .is_err()
    );
}
