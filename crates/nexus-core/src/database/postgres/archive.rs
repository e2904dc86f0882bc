//! An archive of `pg_dump`'s custom format whose data is compressed while it passes, into what a `pg_dump` that compresses
//! would have written: `pg_restore` tells no difference.
//!
//! What is written here of the format can be read in PostgreSQL's `pg_backup_archiver.c` and `pg_backup_custom.c`, 12 to 18.
//! An archive is a header, a table of entries, and for each entry that has rows or large objects a block of data, in the
//! order of the table. An archive that went into a pipe says nowhere how far anything is from its beginning, so that data
//! may become shorter. Nothing is guessed at: another format is not for this file, and what breaks the rules of this one is
//! an error.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use super::press::{Press, QUICK};

/// How many first bytes tell what an archive is.
pub(super) const HEAD: usize = 16;
/// What the manifest says of it.
pub(super) const COMPRESSION: &str = "gzip";
/// Entries of one archive: a table has about five. Of each that has data four bytes are kept.
const ENTRIES: u32 = 1 << 24;

/// The header's first bytes.
const MAGIC: &[u8] = b"PGDMP";
/// The header's word for the custom format.
const CUSTOM: u8 = 1;
/// The header's word for gzip, from 1.15 on.
const GZIP: u8 = 1;
/// An entry has no data, or has data somewhere behind.
const NO_DATA: u8 = 3;
const SOMEWHERE: u8 = 1;
/// What a block of data begins with: rows of a table, or large objects.
const ROWS: u8 = 1;
const LARGE_OBJECTS: u8 = 3;

/// An archive that is not compressed yet, of a kind that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    version: Version,
    /// Bytes of a place in a file.
    place: u8,
}

/// Versions of the format; each adds to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    /// PostgreSQL 12 to 15: the header has a level of compression.
    V14,
    /// PostgreSQL 16: it has the kind of compression instead.
    V15,
    /// PostgreSQL 17 and 18: an entry has the kind of its relation.
    V16,
}

/// Why an archive was not compressed.
#[derive(Debug)]
pub(super) enum Broken {
    /// It ended before its end.
    Cut,
    /// It is not as the format says.
    Malformed(&'static str),
    /// It could not be read or handed on.
    Failed(io::Error),
}

type Outcome<T> = std::result::Result<T, Broken>;

impl Layout {
    /// What an archive is by its first [`HEAD`] bytes; nothing when it is compressed already, or of another kind.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = head.first_chunk()?;
        let rest = head.strip_prefix(MAGIC)?;
        let (&[major, minor, revision, integer, place, format], compression) = rest.split_first_chunk()?;
        let version = match (major, minor, revision) {
            (1, 14, 0) => Version::V14,
            (1, 15, 0) => Version::V15,
            (1, 16, 0) => Version::V16,
            _ => return None,
        };
        let plain = match version {
            Version::V14 => compression == [0; INTEGER],
            _ => compression.first() == Some(&0),
        };
        (plain && integer == 4 && (1..=8).contains(&place) && format == CUSTOM).then_some(Self { version, place })
    }
}

/// Reads an archive of a layout to its end, and has its data compressed. Answers how many stretches it became.
pub(super) fn compress(layout: Layout, archive: impl BufRead, press: Press) -> Outcome<usize> {
    let mut passage = Passage { from: archive, to: press };
    passage.header(layout)?;
    let entries = passage.entries(layout)?;
    passage.blocks(entries)?;
    passage.to.finish().map_err(Broken::Failed)
}

/// Bytes of an integer: its sign and four more, the lowest first.
const INTEGER: usize = 5;

/// An archive on its way.
struct Passage<R> {
    from: R,
    to: Press,
}

impl<R: BufRead> Passage<R> {
    fn header(&mut self, layout: Layout) -> Outcome<()> {
        self.copied::<11>()?;
        if layout.version == Version::V14 {
            self.taken::<INTEGER>()?;
            self.write(&integer(QUICK.into()))?;
        } else {
            self.taken::<1>()?;
            self.write(&[GZIP])?;
        }
        // When it was made; the database, the server's version, the version of pg_dump.
        for _ in 0..7 {
            self.number()?;
        }
        for _ in 0..3 {
            self.text()?;
        }
        Ok(())
    }

    /// Copies the table of entries, and answers which of them have data.
    fn entries(&mut self, layout: Layout) -> Outcome<VecDeque<i32>> {
        let mut with_data = VecDeque::new();
        let count = self.number()?;
        if !u32::try_from(count).is_ok_and(|count| count <= ENTRIES) {
            return Err(Broken::Malformed("it has no such number of entries"));
        }
        for _ in 0..count {
            let (id, has_data) = (self.number()?, self.number()?);
            // The catalogue, the object, its name and kind; then its section.
            self.texts(4)?;
            self.number()?;
            // How it is made, dropped and filled; its schema, tablespace and access method.
            self.texts(6)?;
            if layout.version == Version::V16 {
                self.number()?;
            }
            // Its owner, and a word that is always the same.
            self.texts(2)?;
            // What it needs, until there is no more.
            while self.text()? {}
            let [place] = self.copied::<1>()?;
            for _ in 0..layout.place {
                self.copied::<1>()?;
            }
            match (has_data, place) {
                (0, NO_DATA) if id > 0 => {}
                (1, SOMEWHERE) if id > 0 => with_data.push_back(id),
                _ => return Err(Broken::Malformed("an entry contradicts itself")),
            }
        }
        Ok(with_data)
    }

    /// Compresses each block of data, and requires one for each entry that has data.
    fn blocks(&mut self, mut entries: VecDeque<i32>) -> Outcome<()> {
        while !self.from.fill_buf().map_err(Broken::Failed)?.is_empty() {
            let [kind] = self.copied::<1>()?;
            let id = self.number()?;
            if entries.pop_front() != Some(id) {
                return Err(Broken::Malformed("data is not of the entry whose turn it is"));
            }
            match kind {
                ROWS => self.pieces()?,
                LARGE_OBJECTS => {
                    while self.number()? != 0 {
                        self.pieces()?;
                    }
                }
                _ => return Err(Broken::Malformed("data is of no known kind")),
            }
        }
        if entries.is_empty() { Ok(()) } else { Err(Broken::Cut) }
    }

    /// Compresses pieces of data up to the last one into a stream of its own.
    fn pieces(&mut self) -> Outcome<()> {
        loop {
            let mut left = match usize::try_from(number(self.taken()?)?) {
                Ok(0) => break,
                Ok(length) => length,
                Err(_) => return Err(Broken::Malformed("a piece of data is of no length")),
            };
            while left > 0 {
                let there = self.from.fill_buf().map_err(Broken::Failed)?;
                let taken = left.min(there.len());
                if taken == 0 {
                    return Err(Broken::Cut);
                }
                self.to.data(&there[..taken]).map_err(Broken::Failed)?;
                self.from.consume(taken);
                left -= taken;
            }
        }
        // Data of no length is a stream too: without one `pg_restore` fails.
        self.to.end().map_err(Broken::Failed)
    }

    /// Copies an integer.
    fn number(&mut self) -> Outcome<i32> {
        number(self.copied()?)
    }

    fn texts(&mut self, count: usize) -> Outcome<()> {
        (0..count).try_for_each(|_| self.text().map(drop))
    }

    /// Copies a text; false when there is none.
    fn text(&mut self) -> Outcome<bool> {
        let length = self.number()?;
        let Ok(mut left) = usize::try_from(length) else {
            return if length == -1 { Ok(false) } else { Err(Broken::Malformed("a text is of no length")) };
        };
        while left > 0 {
            let there = self.from.fill_buf().map_err(Broken::Failed)?;
            let taken = left.min(there.len());
            if taken == 0 {
                return Err(Broken::Cut);
            }
            self.to.plain(&there[..taken]).map_err(Broken::Failed)?;
            self.from.consume(taken);
            left -= taken;
        }
        Ok(true)
    }

    fn copied<const LENGTH: usize>(&mut self) -> Outcome<[u8; LENGTH]> {
        let bytes = self.taken()?;
        self.write(&bytes)?;
        Ok(bytes)
    }

    fn taken<const LENGTH: usize>(&mut self) -> Outcome<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        match self.from.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Broken::Cut),
            Err(error) => Err(Broken::Failed(error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.to.plain(bytes).map_err(Broken::Failed)
    }
}

/// An integer as it is written.
pub(super) fn integer(number: i32) -> [u8; INTEGER] {
    let [a, b, c, d] = number.unsigned_abs().to_le_bytes();
    [u8::from(number < 0), a, b, c, d]
}

/// An integer: its sign, and four bytes of how far it is from nothing.
pub(super) fn number([sign, a, b, c, d]: [u8; INTEGER]) -> Outcome<i32> {
    let distance = u32::from_le_bytes([a, b, c, d]);
    let number = match sign {
        0 => i32::try_from(distance).ok(),
        1 => 0_i32.checked_sub_unsigned(distance),
        _ => None,
    };
    number.ok_or(Broken::Malformed("an integer is out of range"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read};

    use zlib_rs::{Inflate, InflateFlush, Status};

    use super::*;
    use crate::database::postgres::press::press;

    /// What a block holds: its entry, and rows, or large objects by their numbers.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Block {
        id: i32,
        kind: u8,
        contents: Vec<(i32, Vec<u8>)>,
    }

    /// An archive in its parts.
    struct Sample {
        head: Vec<u8>,
        entries: Vec<u8>,
        blocks: Vec<Block>,
    }

    /// `SplitMix64`.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).expect("below the sides")
        }

        /// Bytes that repeat, or do not.
        fn bytes(&mut self, most: usize) -> Vec<u8> {
            let (length, letters) = (self.roll(most + 1), [2, 20, 256][self.roll(3)]);
            (0..length).map(|_| u8::try_from(self.roll(letters)).expect("a byte")).collect()
        }

        fn number(&mut self) -> i32 {
            [0, 1, 17, -1, i32::MAX, i32::MIN, 65_536][self.roll(7)]
        }

        fn text(&mut self) -> Vec<u8> {
            if self.roll(4) == 0 { integer(-1).to_vec() } else { text(&self.bytes(30)) }
        }

        fn sample(&mut self, minor: u8, most: usize) -> Sample {
            let mut head = [MAGIC, &[1, minor, 0, 4, 8, CUSTOM]].concat();
            head.extend(if minor == 14 { integer(0).to_vec() } else { vec![0] });
            head.extend((0..7).flat_map(|_| integer(self.number())));
            head.extend((0..3).flat_map(|_| self.text()));
            let count = self.roll(8);
            let (mut entries, mut blocks) = (integer(i32::try_from(count).expect("few")).to_vec(), Vec::new());
            for id in (1..).take(count) {
                let has_data = self.roll(2) == 0;
                entries.extend([integer(id), integer(has_data.into())].concat());
                entries.extend((0..4).flat_map(|_| self.text()));
                entries.extend(integer(self.number()));
                entries.extend((0..6).flat_map(|_| self.text()));
                if minor == 16 {
                    entries.extend(integer(self.number()));
                }
                entries.extend((0..2).flat_map(|_| self.text()));
                entries.extend((0..self.roll(3)).flat_map(|_| text(&self.bytes(5))));
                entries.extend(integer(-1));
                entries.extend([if has_data { SOMEWHERE } else { NO_DATA }, 1, 2, 3, 4, 5, 6, 7, 8]);
                if has_data {
                    blocks.push(self.block(id, most));
                }
            }
            Sample { head, entries, blocks }
        }

        fn block(&mut self, id: i32, most: usize) -> Block {
            let kind = [ROWS, LARGE_OBJECTS][self.roll(2)];
            // The number of a large object takes all four bytes.
            let numbers = if kind == ROWS { vec![0] } else { [7, i32::MAX, i32::MIN, -5][self.roll(4)..].to_vec() };
            Block { id, kind, contents: numbers.into_iter().map(|number| (number, self.bytes(most))).collect() }
        }
    }

    fn text(bytes: &[u8]) -> Vec<u8> {
        [&integer(i32::try_from(bytes.len()).expect("short")), bytes].concat()
    }

    impl Sample {
        /// The archive as `pg_dump` writes it, each data cut into pieces anywhere.
        fn plain(&self, dice: &mut Dice) -> Vec<u8> {
            let mut archive = [self.head.as_slice(), &self.entries].concat();
            for block in &self.blocks {
                archive.push(block.kind);
                archive.extend(integer(block.id));
                for (number, data) in &block.contents {
                    if block.kind == LARGE_OBJECTS {
                        archive.extend(integer(*number));
                    }
                    let mut left = data.as_slice();
                    while !left.is_empty() {
                        let (piece, rest) = left.split_at(1 + dice.roll(left.len().min(40_000)));
                        archive.extend(text(piece));
                        left = rest;
                    }
                    archive.extend(integer(0));
                }
                archive.extend(if block.kind == LARGE_OBJECTS { integer(0).to_vec() } else { Vec::new() });
            }
            archive
        }
    }

    /// Gives so few bytes at a time.
    struct Drops(Cursor<Vec<u8>>, usize);

    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(self.1);
            self.0.read(&mut buffer[..length])
        }
    }

    /// Compresses an archive that comes in drops.
    fn passed(archive: &[u8], drops: usize) -> Outcome<Vec<u8>> {
        let layout = Layout::of(archive).expect("a layout");
        let (press, work, mut pressed) = press();
        let archive = BufReader::with_capacity(drops + 7, Drops(Cursor::new(archive.to_vec()), drops));
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| compress(layout, archive, press));
            let working: Vec<_> = work.into_iter().map(|work| scope.spawn(|| work.run())).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let mut made = Vec::new();
            while let Some(piece) = runtime.block_on(pressed.next()) {
                assert!(!piece.is_empty());
                made.extend(piece);
            }
            for thread in working {
                thread.join().expect("a thread").expect("it compresses");
            }
            let dealt = reading.join().expect("a thread")?;
            assert_eq!(dealt, pressed.taken);
            Ok(made)
        })
    }

    /// Reads what `pg_restore` would, by its rules.
    struct Reading<'a>(&'a [u8]);

    impl<'a> Reading<'a> {
        fn bytes(&mut self, length: usize) -> &'a [u8] {
            let (bytes, rest) = self.0.split_at(length);
            self.0 = rest;
            bytes
        }

        fn number(&mut self) -> i32 {
            number(self.bytes(INTEGER).try_into().expect("its length")).expect("in range")
        }

        fn data(&mut self) -> Vec<u8> {
            let (mut inflate, mut data, mut status) = (Inflate::new(true, 15), Vec::new(), Status::Ok);
            while let length @ 1.. = self.number() {
                assert_ne!(status, Status::StreamEnd, "there is more behind the end of the stream");
                let mut piece = self.bytes(usize::try_from(length).expect("a length"));
                while !piece.is_empty() && status != Status::StreamEnd {
                    let (read, written) = (inflate.total_in(), inflate.total_out());
                    let mut room = [0; 4096];
                    status = inflate.decompress(piece, &mut room, InflateFlush::NoFlush).expect("a zlib stream");
                    piece = &piece[usize::try_from(inflate.total_in() - read).expect("a length")..];
                    data.extend(&room[..usize::try_from(inflate.total_out() - written).expect("a length")]);
                }
                while status == Status::Ok && inflate.total_out() % 4096 == 0 {
                    let (written, mut room) = (inflate.total_out(), [0; 4096]);
                    status = inflate.decompress(&[], &mut room, InflateFlush::NoFlush).expect("a zlib stream");
                    data.extend(&room[..usize::try_from(inflate.total_out() - written).expect("a length")]);
                }
                assert!(piece.is_empty(), "there is more behind the end of the stream");
            }
            assert_eq!(status, Status::StreamEnd, "it has its checksum");
            data
        }

        fn block(&mut self) -> Block {
            let [kind] = *self.bytes(1) else { panic!("one byte") };
            let (id, mut contents) = (self.number(), Vec::new());
            if kind == ROWS {
                contents.push((0, self.data()));
            } else {
                while let number @ (..=-1 | 1..) = self.number() {
                    contents.push((number, self.data()));
                }
            }
            Block { id, kind, contents }
        }
    }

    /// What it must begin with.
    fn compressed_head(sample: &Sample, minor: u8) -> Vec<u8> {
        let mut head = sample.head.clone();
        if minor == 14 {
            head[11..16].copy_from_slice(&integer(QUICK.into()));
        } else {
            head[11] = GZIP;
        }
        head
    }

    #[test]
    fn an_archive_holds_the_same_when_it_is_compressed_however_it_comes() {
        for seed in 0..80 {
            let mut dice = Dice(seed);
            let (minor, most) = ([14, 15, 16][dice.roll(3)], [0, 60, 5_000, 700_000][dice.roll(4)]);
            let (sample, drops) = (dice.sample(minor, most), [1, 9, 4_096, 300_000][dice.roll(4)]);
            let archive = sample.plain(&mut dice);
            let made = passed(&archive, drops).expect("it is an archive");
            let mut reading = Reading(&made);
            assert_eq!(reading.bytes(sample.head.len()), compressed_head(&sample, minor), "seed {seed}");
            assert_eq!(reading.bytes(sample.entries.len()), sample.entries, "seed {seed}");
            for block in &sample.blocks {
                assert!(reading.block() == *block, "seed {seed}");
            }
            assert!(reading.0.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn data_of_many_stretches_is_one_stream_that_repeats_from_one_stretch_to_the_next() {
        let mut dice = Dice(1);
        let line: Vec<u8> = (0..20_000).map(|_| u8::try_from(dice.roll(256)).expect("a byte")).collect();
        let mut sample = (2..999).map(|seed| Dice(seed).sample(16, 0)).find(|it| it.blocks.len() == 1).expect("one");
        sample.blocks[0].contents[0].1 = line.repeat(100);
        let made = passed(&sample.plain(&mut dice), 50_000).expect("it is an archive");
        let mut reading = Reading(&made[sample.head.len() + sample.entries.len()..]);
        assert!(reading.block() == sample.blocks[0]);
        // Each stretch that could not look back would hold the line anew.
        assert!(made.len() < 4 * line.len(), "{}", made.len());
    }

    #[test]
    fn an_archive_that_is_cut_anywhere_is_cut() {
        let mut dice = Dice(3);
        let sample = std::iter::repeat_with(|| dice.sample(14, 9)).find(|it| it.blocks.len() > 2).expect("one");
        let archive = sample.plain(&mut Dice(4));
        for length in HEAD..archive.len() {
            let outcome = passed(&archive[..length], 64);
            assert!(matches!(outcome, Err(Broken::Cut)), "{length} of {}: {outcome:?}", archive.len());
        }
        assert!(passed(&archive, 64).is_ok());
    }

    #[test]
    fn what_breaks_the_rules_is_malformed() {
        let head = [MAGIC, &[1, 15, 0, 4, 8, CUSTOM, 0]].concat();
        let head = [head, [integer(0); 7].concat(), [integer(-1); 3].concat()].concat();
        let entry = |id, has_data, place| {
            let begin = [integer(1), integer(id), integer(has_data)].concat();
            [begin, [integer(-1); 4].concat(), integer(2).to_vec(), [integer(-1); 9].concat(), vec![place], vec![0; 8]]
                .concat()
        };
        let block = |kind, id, length| [&[kind][..], &integer(id), &integer(length)].concat();
        let rows = entry(5, 1, SOMEWHERE);
        let with = |rest: &[&[u8]]| passed(&[&head[..], &rest.concat()].concat(), 64);
        assert!(with(&[&rows, &block(ROWS, 5, 0)]).is_ok());
        let broken: [&[&[u8]]; 10] = [
            &[&integer(-1)],
            &[&integer(i32::MAX)],
            &[&[2, 0, 0, 0, 0]],
            &[&[0, 0, 0, 0, 128]],
            &[&integer(1), &integer(1), &integer(0), &integer(-2)],
            &[&entry(5, 1, 2)],
            &[&entry(0, 1, SOMEWHERE)],
            &[&rows, &block(ROWS, 6, 0)],
            &[&rows, &block(2, 5, 0)],
            &[&rows, &block(ROWS, 5, -3)],
        ];
        for (number, rest) in broken.iter().enumerate() {
            let outcome = with(rest);
            assert!(matches!(outcome, Err(Broken::Malformed(_))), "{number}: {outcome:?}");
        }
        let twice = with(&[&rows, &block(ROWS, 5, 0), &block(ROWS, 5, 0)]);
        assert!(matches!(twice, Err(Broken::Malformed(_))), "{twice:?}");
    }

    #[test]
    fn only_what_is_understood_and_not_compressed_has_a_layout() {
        let head = |minor: u8, rest: &[u8]| {
            let mut head = [MAGIC, &[1, minor, 0, 4, 8, CUSTOM], rest].concat();
            head.resize(HEAD, 0);
            head
        };
        for minor in [14, 15, 16] {
            assert!(Layout::of(&head(minor, &[])).is_some());
            for (at, byte) in [(0, b'X'), (5, 2), (6, 13), (6, 17), (7, 1), (8, 8), (9, 0), (9, 9), (10, 3), (11, 1)] {
                let mut other = head(minor, &[]);
                other[at] = byte;
                assert_eq!(Layout::of(&other), None, "{minor}: {byte} at {at}");
            }
        }
        assert_eq!(Layout::of(&head(14, &integer(-1))), None);
        assert_eq!(Layout::of(&head(15, &[3])), None);
        assert_eq!(Layout::of(&head(14, &[])[..HEAD - 1]), None);
    }
}
