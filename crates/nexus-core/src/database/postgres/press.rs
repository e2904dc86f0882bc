//! Bytes on their way through several threads: some pass as they are, others become zlib streams.
//!
//! One thread compresses more slowly than `pg_dump` writes. So a stream is cut into stretches that are dealt to the threads in
//! turn, each with the end of the one before it, from which it may repeat, and with a checksum of the whole in the last one.
//! A stretch is compressed as well as there is time: quickly only when a thread is what all others wait for.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use zlib_rs::adler32::adler32;
use zlib_rs::{Deflate, DeflateFlush, Status};

use super::archive::integer;

/// Quick: half the time of the next level, and a quarter more than what zlib leaves at its first level.
pub(super) const QUICK: u8 = 1;
/// Thorough: a tenth less than what zlib leaves at its first level, in three quarters of its time.
const THOROUGH: u8 = 2;
/// Threads that compress: what a server sends by one session keeps no more of them busy.
const THREADS: usize = 2;
/// Stretches that wait for a thread, and as many for whoever takes them.
const WAITING: usize = 2;
/// Bytes of a stretch.
const STRETCH: usize = 512 * 1024;
/// How far back a zlib stream may repeat, and the power of two that this is.
const WINDOW: usize = 1 << WINDOW_BITS;
const WINDOW_BITS: u8 = 15;
/// The beginning of a zlib stream: its window, and that it was made quickly.
const BEGINNING: [u8; 2] = [0x78, 0x01];
/// The checksum of nothing.
const SUM: u32 = 1;
/// Room that is made when there is none for what is compressed.
const ROOM: usize = 16 * 1024;

/// A part of what passes.
struct Stretch {
    /// What passes as it is, before the data.
    plain: Vec<u8>,
    /// What comes before the data in the stream; empty where it begins.
    window: Vec<u8>,
    data: Vec<u8>,
    place: Place,
}

/// Where in its stream the data of a stretch is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// There is no stream.
    None,
    /// It goes on behind it.
    Within,
    /// The stream ends with it; its checksum.
    End(u32),
}

/// Takes bytes and deals them out.
pub(super) struct Press {
    threads: Vec<Sender<Stretch>>,
    stretch: Stretch,
    sum: u32,
    dealt: usize,
}

/// A thread's work.
pub(super) struct Work {
    from: Receiver<Stretch>,
    to: Sender<Bytes>,
}

/// Gives back what was dealt out, in its order.
pub(super) struct Pressed {
    threads: Vec<Receiver<Bytes>>,
    /// How many stretches were given back.
    pub(super) taken: usize,
}

/// A press, what its threads are to do, and where it comes out.
pub(super) fn press() -> (Press, Vec<Work>, Pressed) {
    let (mut threads, mut work, mut pressed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..THREADS {
        let (deal, from) = mpsc::channel(WAITING);
        let (to, take) = mpsc::channel(WAITING);
        threads.push(deal);
        work.push(Work { from, to });
        pressed.push(take);
    }
    let press = Press { threads, stretch: Stretch::behind(Vec::new()), sum: SUM, dealt: 0 };
    (press, work, Pressed { threads: pressed, taken: 0 })
}

impl Press {
    /// Passes bytes as they are; not within a stream.
    pub(super) fn plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stretch.plain.extend_from_slice(bytes);
        if self.stretch.plain.len() < STRETCH { Ok(()) } else { self.deal(Place::None) }
    }

    /// Adds to the stream, which the first addition begins.
    pub(super) fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.stretch.data.len() == STRETCH {
                self.deal(Place::Within)?;
            }
            let room = STRETCH - self.stretch.data.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.stretch.data.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends the stream, which may be of no data.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.sum = adler32(self.sum, &self.stretch.data);
        self.deal(Place::End(self.sum))
    }

    /// Deals out what is left, and answers how many stretches there were.
    pub(super) fn finish(mut self) -> io::Result<usize> {
        if !self.stretch.plain.is_empty() {
            self.deal(Place::None)?;
        }
        Ok(self.dealt)
    }

    fn deal(&mut self, place: Place) -> io::Result<()> {
        let window = if place == Place::Within {
            self.sum = adler32(self.sum, &self.stretch.data);
            self.stretch.data[self.stretch.data.len().saturating_sub(WINDOW)..].to_vec()
        } else {
            self.sum = SUM;
            Vec::new()
        };
        let mut stretch = std::mem::replace(&mut self.stretch, Stretch::behind(window));
        stretch.place = place;
        let thread = &self.threads[self.dealt % THREADS];
        thread.blocking_send(stretch).map_err(|_| gone())?;
        self.dealt += 1;
        Ok(())
    }
}

impl Stretch {
    fn behind(window: Vec<u8>) -> Self {
        Self { plain: Vec::new(), window, data: Vec::new(), place: Place::None }
    }
}

impl Work {
    /// Compresses what is dealt to this thread, until there is no more.
    pub(super) fn run(mut self) -> io::Result<()> {
        let [mut quick, mut thorough] = [QUICK, THOROUGH].map(|level| Deflate::new(level.into(), false, WINDOW_BITS));
        while let Some(stretch) = self.from.blocking_recv() {
            let hurried = hurried(self.from.len(), self.to.max_capacity() - self.to.capacity());
            let pressed = pressed(if hurried { &mut quick } else { &mut thorough }, stretch)?;
            self.to.blocking_send(pressed.into()).map_err(|_| gone())?;
        }
        Ok(())
    }
}

impl Pressed {
    /// The next bytes; none at the end, or when the thread whose turn it is has failed.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let bytes = self.threads[self.taken % THREADS].recv().await?;
        self.taken += 1;
        Some(bytes)
    }
}

/// True when a thread is what the others wait for: more is there for it already, and there is room for what it makes.
fn hurried(waiting: usize, untaken: usize) -> bool {
    waiting > 0 && untaken < WAITING
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes it any more")
}

/// What becomes of a stretch: what passes as it is, then a piece of the archive's data, and the end of pieces with the last.
fn pressed(deflate: &mut Deflate, stretch: Stretch) -> io::Result<Vec<u8>> {
    let Stretch { plain: mut made, window, data, place } = stretch;
    let flush = match place {
        Place::None => return Ok(made),
        Place::Within => DeflateFlush::SyncFlush,
        Place::End(_) => DeflateFlush::Finish,
    };
    let length_at = made.len();
    made.extend(integer(0));
    let begin = made.len();
    deflate.reset();
    if window.is_empty() {
        made.extend(BEGINNING);
    } else {
        deflate.set_dictionary(&window).map_err(|error| io::Error::other(error.as_str()))?;
    }
    compress(deflate, &data, flush, &mut made)?;
    if let Place::End(sum) = place {
        made.extend(sum.to_be_bytes());
    }
    let length = i32::try_from(made.len() - begin).map_err(io::Error::other)?;
    made[length_at..begin].copy_from_slice(&integer(length));
    if matches!(place, Place::End(_)) {
        made.extend(integer(0));
    }
    Ok(made)
}

/// Compresses all of some data to the end of what is made.
fn compress(deflate: &mut Deflate, data: &[u8], flush: DeflateFlush, made: &mut Vec<u8>) -> io::Result<()> {
    let (mut done, mut filled) = (0, made.len());
    made.resize(filled + data.len() / 2 + ROOM, 0);
    loop {
        let (read, written) = (deflate.total_in(), deflate.total_out());
        let status = deflate.compress(&data[done..], &mut made[filled..], flush);
        let status = status.map_err(|error| io::Error::other(error.as_str()))?;
        done += usize::try_from(deflate.total_in() - read).map_err(io::Error::other)?;
        filled += usize::try_from(deflate.total_out() - written).map_err(io::Error::other)?;
        if status == Status::StreamEnd {
            break;
        }
        // What is not full has taken everything.
        if filled < made.len() {
            if flush == DeflateFlush::SyncFlush && done == data.len() {
                break;
            }
            return Err(io::Error::other("the compression stands still"));
        }
        made.resize(filled + ROOM, 0);
    }
    made.truncate(filled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_that_all_others_wait_for_hurries() {
        assert!(hurried(1, 0));
        assert!(hurried(WAITING, WAITING - 1));
        // `pg_dump` is what all wait for, or the vault.
        assert!(!hurried(0, 0));
        assert!(!hurried(WAITING, WAITING));
    }

    #[test]
    fn stretches_of_either_level_are_one_stream() {
        let data: Vec<u8> = (0_u32..90_000).flat_map(|number| (number % 8191 * 7).to_le_bytes()).collect();
        let (first, second) = data.split_at(200_000);
        let sum = adler32(adler32(SUM, first), second);
        for levels in [[QUICK, THOROUGH], [THOROUGH, QUICK]] {
            let [mut one, mut other] = levels.map(|level| Deflate::new(level.into(), false, WINDOW_BITS));
            let begin = Stretch { data: first.to_vec(), place: Place::Within, ..Stretch::behind(Vec::new()) };
            let window = first[first.len() - WINDOW..].to_vec();
            let end = Stretch { data: second.to_vec(), place: Place::End(sum), ..Stretch::behind(window) };
            let (begin, end) = (pressed(&mut one, begin).expect("made"), pressed(&mut other, end).expect("made"));
            let framed = integer(0).len();
            let stream = [&begin[framed..], &end[framed..end.len() - framed]].concat();
            let mut back = vec![0; data.len()];
            let mut inflate = zlib_rs::Inflate::new(true, WINDOW_BITS);
            let status = inflate.decompress(&stream, &mut back, zlib_rs::InflateFlush::Finish).expect("a zlib stream");
            assert_eq!(status, Status::StreamEnd);
            assert!(back == data);
        }
    }
}
