//! What goes from one who lists to one who reads: held in memory while that is little, in a file without a name beyond.
//!
//! Whoever lists never waits for whoever reads, so that one reader may go through several listings at once in any order. What is
//! held is bounded for all listings of a service together; each object beyond takes some 60 bytes of disk.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Object;
use super::packed::{Packer, Unpacker};
use super::sorted::{Merge, Sorter};
use crate::error::{Error, Result};

/// Objects that all spools of a service hold in memory at most: some 300 bytes each.
pub(crate) const HELD: usize = 50_000;

/// Objects of one piece of what was sorted.
const SORTED_AT_ONCE: usize = 1_000;

/// How many objects are held.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    fn take(&self, count: usize) -> bool {
        let more = |held: usize| Some(held + count).filter(|held| *held <= HELD);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Objects on their way, in the order in which they came.
struct Spool {
    folder: PathBuf,
    held: Held,
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    memory: VecDeque<Vec<Object>>,
    disk: Disk,
    /// Nothing is handed out before it has ended: it may have to be sorted.
    kept_back: bool,
    end: Option<End>,
    /// It came out of order: whoever reads it sorts it first, on the thread that may wait.
    unsorted: bool,
    /// What was out of order, sorted.
    sorted: Option<Merge>,
    /// Where it goes on.
    next: Option<Arc<Spool>>,
    /// Nobody reads any more.
    unread: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

/// Blocks in a file, each after its length; the file is emptied when all are read.
#[derive(Default)]
struct Disk {
    file: Option<File>,
    written: u64,
    read: u64,
}

impl Disk {
    fn put(&mut self, objects: &[Object], folder: &Path) -> Result<()> {
        let what = || format!("cannot spill a listing to `{}`", folder.display());
        let broken = |cause| Error::local(what(), cause);
        let mut block = vec![0; 4];
        let mut packer = Packer::default();
        for object in objects {
            packer.put(object, &mut block).map_err(broken)?;
        }
        let length = u32::try_from(block.len() - 4).map_err(|_| broken(std::io::ErrorKind::InvalidInput.into()))?;
        block[..4].copy_from_slice(&length.to_le_bytes());
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile_in(folder).map_err(broken)?);
        }
        let file = self.file.as_ref().expect("it was just made");
        if self.read == self.written {
            file.set_len(0).map_err(broken)?;
            (self.read, self.written) = (0, 0);
        }
        file.write_all_at(&block, self.written).map_err(broken)?;
        self.written += block.len() as u64;
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Vec<Object>>> {
        let broken = |cause| Error::local("cannot read a spilled listing back", cause);
        let Some(file) = self.file.as_ref().filter(|_| self.read < self.written) else { return Ok(None) };
        let mut length = [0; 4];
        file.read_exact_at(&mut length, self.read).map_err(broken)?;
        let length = u32::from_le_bytes(length);
        let mut block = vec![0; usize::try_from(length).map_err(|_| broken(std::io::ErrorKind::InvalidData.into()))?];
        file.read_exact_at(&mut block, self.read + 4).map_err(broken)?;
        self.read += 4 + u64::from(length);
        let (mut unpacker, mut rest, mut objects) = (Unpacker::default(), &block[..], Vec::new());
        while !rest.is_empty() {
            let cut = || broken(std::io::ErrorKind::InvalidData.into());
            objects.push(unpacker.take(&mut rest).ok_or_else(cut)?);
        }
        Ok(Some(objects))
    }
}

impl Spool {
    fn new(folder: &Path, held: &Held, kept_back: bool) -> Arc<Self> {
        let state = Mutex::new(State { kept_back, ..State::default() });
        Arc::new(Self { folder: folder.to_owned(), held: held.clone(), state, came: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next objects, waited for; `None` at the end.
    fn take(&self) -> Result<Option<Vec<Object>>> {
        let mut state = self.state();
        loop {
            let may = !state.kept_back || state.end.is_some();
            if state.end == Some(End::Whole) && std::mem::take(&mut state.unsorted) {
                state.sorted = Some(self.sort(&mut state)?);
            }
            if may && let Some(sorted) = &mut state.sorted {
                let some: Vec<Object> = sorted.by_ref().take(SORTED_AT_ONCE).collect::<Result<_>>()?;
                return Ok((!some.is_empty()).then_some(some));
            }
            if may && let Some(objects) = state.memory.pop_front() {
                self.held.give(objects.len());
                return Ok(Some(objects));
            }
            if may && let Some(objects) = state.disk.take()? {
                return Ok(Some(objects));
            }
            match state.end {
                Some(End::Whole) => return Ok(None),
                Some(End::Broken) => return Err(broke_off()),
                None => state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn sort(&self, state: &mut State) -> Result<Merge> {
        let mut sorter = Sorter::new(&self.folder);
        loop {
            let some = match state.memory.pop_front() {
                Some(objects) => {
                    self.held.give(objects.len());
                    Some(objects)
                }
                None => state.disk.take()?,
            };
            let Some(objects) = some else { break };
            objects.into_iter().try_for_each(|object| sorter.push(object))?;
        }
        state.disk = Disk::default();
        sorter.merged()
    }
}

/// Whoever listed says why, and that is what is told; this is for whoever reads, so that no end is taken for one.
fn broke_off() -> Error {
    Error::Local { what: "cannot read a listing to its end: it broke off".into(), cause: None }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let left = self.state().memory.iter().map(Vec::len).sum();
        self.held.give(left);
    }
}

/// The end at which objects are put in. Dropped before [`Inlet::end`], it tells the reader that the listing broke off.
pub(crate) struct Inlet(Arc<Spool>);

/// The other end, and those that follow it.
pub(crate) struct Outlet {
    spool: Arc<Spool>,
    objects: std::vec::IntoIter<Object>,
    taken: u64,
    whole: Arc<Whole>,
}

/// How many objects there are in all: only when that is said, and they are as many, has a reader come to the end.
#[derive(Default)]
struct Whole {
    told: Mutex<Option<Told>>,
    came: Condvar,
}

/// What the one who listed says at the end.
#[derive(Clone, Copy)]
enum Told {
    Objects(u64),
    BrokeOff,
}

/// Says at the end how many objects there were in all. Dropped before, it tells the reader that the listing broke off.
pub(crate) struct Sum(Arc<Whole>);

impl Whole {
    fn tell(&self, told: Told) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(told);
        self.came.notify_one();
    }

    fn wait(&self) -> Result<u64> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = self.came.wait_while(told, |told| told.is_none()).unwrap_or_else(PoisonError::into_inner);
        match *told {
            Some(Told::Objects(objects)) => Ok(objects),
            _ => Err(broke_off()),
        }
    }
}

impl Sum {
    /// So many were put in.
    pub(crate) fn tell(&self, objects: u64) {
        self.0.tell(Told::Objects(objects));
    }
}

impl Drop for Sum {
    fn drop(&mut self) {
        self.0.tell(Told::BrokeOff);
    }
}

/// When what is put in may be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// At once.
    AsItComes,
    /// When all of it is there, since it may have to be sorted.
    AtItsEnd,
}

/// Both ends of one, and what says how much it was in the end.
pub(crate) fn spool(folder: &Path, held: &Held, when: When) -> (Inlet, Sum, Outlet) {
    let spool = Spool::new(folder, held, when == When::AtItsEnd);
    let whole = Arc::new(Whole::default());
    let (inlet, sum) = (Inlet(Arc::clone(&spool)), Sum(Arc::clone(&whole)));
    (inlet, sum, Outlet { spool, objects: Vec::new().into_iter(), taken: 0, whole })
}

impl Inlet {
    /// Puts objects in; never waits.
    pub(crate) fn put(&self, objects: Vec<Object>) -> Result<()> {
        let mut state = self.0.state();
        if objects.is_empty() || state.unread {
            return Ok(());
        }
        let all_read = state.disk.read == state.disk.written;
        if all_read && self.0.held.take(objects.len()) {
            state.memory.push_back(objects);
        } else {
            state.disk.put(&objects, &self.0.folder)?;
        }
        self.0.came.notify_one();
        Ok(())
    }

    /// Begins another one, which is read after this and before what followed until now. This one must not have ended yet: its
    /// reader may have gone on.
    pub(crate) fn followed(&self, when: When) -> Self {
        let after = Spool::new(&self.0.folder, &self.0.held, when == When::AtItsEnd);
        let mut state = self.0.state();
        let mut of_it = after.state();
        of_it.next = state.next.replace(Arc::clone(&after));
        of_it.unread = state.unread;
        drop(of_it);
        Self(after)
    }

    /// What was kept back may be had from now on, as it comes.
    pub(crate) fn release(&self) {
        self.0.state().kept_back = false;
        self.0.came.notify_one();
    }

    /// What was put in, none of which was handed out yet, is to be sorted when it is read.
    pub(crate) fn sort(&self) {
        self.0.state().unsorted = true;
    }

    /// Everything was put in.
    pub(crate) fn end(&self) {
        self.0.state().end = Some(End::Whole);
        self.0.came.notify_one();
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.0.state().end.get_or_insert(End::Broken);
        self.0.came.notify_one();
    }
}

impl Outlet {
    /// The next object, waited for: on a thread of its own, unless all of it is there.
    pub(crate) fn take(&mut self) -> Result<Option<Object>> {
        loop {
            if let Some(object) = self.objects.next() {
                self.taken += 1;
                return Ok(Some(object));
            }
            if let Some(objects) = self.spool.take()? {
                self.objects = objects.into_iter();
                continue;
            }
            let next = self.spool.state().next.take();
            match next {
                Some(next) => self.spool = next,
                None if self.whole.wait()? == self.taken => return Ok(None),
                None => {
                    let what = format!("cannot read a listing to its end: {} objects of it came", self.taken);
                    return Err(Error::Local { what, cause: None });
                }
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut next = Some(Arc::clone(&self.spool));
        while let Some(spool) = next {
            let mut state = spool.state();
            state.unread = true;
            let held = std::mem::take(&mut state.memory);
            spool.held.give(held.iter().map(Vec::len).sum());
            state.disk = Disk::default();
            next = state.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::{FileKind, Side};

    fn page(range: std::ops::Range<usize>) -> Vec<Object> {
        let object = |number| Object { key: format!("{number:08}"), side: Side::default(), kind: FileKind::File };
        range.map(object).collect()
    }

    fn rest(mut outlet: Outlet) -> Result<Vec<Object>> {
        std::iter::from_fn(|| outlet.take().transpose()).collect()
    }

    #[test]
    fn what_nobody_reads_goes_to_the_disk_and_comes_back_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let held = Held::default();
        let (first, sum, outlet) = spool(folder.path(), &held, When::AsItComes);
        let third = first.followed(When::AsItComes);
        let second = first.followed(When::AtItsEnd);
        for start in (0..100_000).step_by(1_000) {
            third.put(page(start + 200_000..start + 201_000)).expect("room");
            second.put(page(start + 100_000..start + 101_000)).expect("room");
            first.put(page(start..start + 1_000)).expect("room");
            assert!(held.0.load(Ordering::Relaxed) <= HELD);
        }
        for inlet in [first, second, third] {
            inlet.end();
        }
        sum.tell(300_000);
        assert_eq!(rest(outlet).expect("all of it"), page(0..300_000));
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_listing_that_is_given_up_is_no_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (inlet, sum, outlet) = spool(folder.path(), &Held::default(), When::AsItComes);
        inlet.put(page(0..10)).expect("room");
        drop((inlet, sum));
        assert!(rest(outlet).is_err());
    }

    #[test]
    fn a_reader_on_another_thread_gets_what_comes_and_a_reader_that_goes_frees_what_is_held() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let held = Held::default();
        let (inlet, sum, outlet) = spool(folder.path(), &held, When::AsItComes);
        let reader = std::thread::spawn(move || rest(outlet).map(|all| all.len()));
        for start in 0..100 {
            inlet.put(page(start * 10..start * 10 + 10)).expect("room");
        }
        inlet.end();
        sum.tell(1_000);
        assert_eq!(reader.join().expect("no panic").expect("all of it"), 1_000);
        let (inlet, _sum, outlet) = spool(folder.path(), &held, When::AsItComes);
        inlet.put(page(0..10)).expect("room");
        drop(outlet);
        inlet.put(page(0..10)).expect("nobody reads it");
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_listing_of_which_something_is_lost_is_no_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (inlet, sum, outlet) = spool(folder.path(), &Held::default(), When::AsItComes);
        inlet.put(page(0..10)).expect("room");
        inlet.end();
        sum.tell(11);
        assert!(rest(outlet).is_err());
    }

    #[test]
    fn what_came_out_of_order_is_sorted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (inlet, sum, outlet) = spool(folder.path(), &Held::default(), When::AtItsEnd);
        for start in [70_000, 0, 35_000] {
            inlet.put(page(start..start + 35_000)).expect("room");
        }
        inlet.sort();
        inlet.end();
        sum.tell(105_000);
        assert_eq!(rest(outlet).expect("all of it"), page(0..105_000));
    }
}
