//! What was decided of each file, between deciding and copying: as few bytes in a file of the scratch folder.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use jiff::Timestamp;

use crate::bucket::Object;
use crate::bucket::packed::{
    Packer, Unpacker, put_bytes, put_number, read_block, take_bytes, take_number, take_text, write_block,
};
use crate::error::{Error, Result};
use crate::listing::{FileEntry, FileKind, Place, ProofKind, Side};
use crate::local::create_private;
use crate::point::PointId;

/// Jobs of one block.
const BLOCK: usize = 100;
/// It is to be copied.
const COPY: u8 = 0;
/// An earlier copy serves, of which everything can be told but where and when it was made.
const PLAIN: u8 = 1;
/// An earlier copy serves, and its line follows as JSON.
const LINE: u8 = 2;
/// Proofs by their number.
const PROOFS: [ProofKind; 4] = [ProofKind::Etag, ProofKind::Checksum, ProofKind::Size, ProofKind::Adopted];

/// A file, and the earlier copy that may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) object: Object,
    pub(super) category: String,
    pub(super) reuse: Option<FileEntry>,
}

/// Writes jobs.
pub(super) struct WorkWriter {
    out: BufWriter<File>,
    what: String,
    block: Vec<u8>,
    packer: Packer,
    jobs: usize,
    points: Vec<PointId>,
}

impl WorkWriter {
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            out: BufWriter::new(create_private(path)?),
            what: format!("cannot write `{}`", path.display()),
            block: Vec::new(),
            packer: Packer::default(),
            jobs: 0,
            points: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, job: &Job) -> Result<()> {
        self.packer.put(&job.object, &mut self.block).map_err(|cause| Error::local(&self.what, cause))?;
        put_bytes(job.category.as_bytes(), &mut self.block);
        match &job.reuse {
            None => self.block.push(COPY),
            Some(entry) => self.put_earlier(job, entry)?,
        }
        self.jobs += 1;
        if self.jobs.is_multiple_of(BLOCK) { self.write() } else { Ok(()) }
    }

    fn put_earlier(&mut self, job: &Job, entry: &FileEntry) -> Result<()> {
        if let Some((point, proof, modified)) = plain(job, entry) {
            self.block.push(PLAIN);
            self.put_point(point);
            put_number(proof, &mut self.block);
            put_number(modified.as_second().cast_unsigned(), &mut self.block);
            put_number(u64::from(modified.subsec_nanosecond().unsigned_abs()), &mut self.block);
            return Ok(());
        }
        self.block.push(LINE);
        let line = serde_json::to_vec(entry).map_err(|cause| Error::local(&self.what, cause.into()))?;
        put_bytes(&line, &mut self.block);
        Ok(())
    }

    /// Points are few: each is spelled once and then a number.
    fn put_point(&mut self, point: &PointId) {
        if let Some(at) = self.points.iter().position(|known| known == point) {
            return put_number(at as u64 + 1, &mut self.block);
        }
        put_number(0, &mut self.block);
        put_bytes(point.to_string().as_bytes(), &mut self.block);
        self.points.push(point.clone());
    }

    fn write(&mut self) -> Result<()> {
        if !self.block.is_empty() {
            write_block(&self.block, &mut self.out).map_err(|cause| Error::local(&self.what, cause))?;
            self.block.clear();
        }
        self.packer = Packer::default();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.write()?;
        self.out.flush().map_err(|cause| Error::local(&self.what, cause))
    }
}

/// What must be said of an earlier copy that lies where its file's copies lie and is as the file is.
fn plain<'a>(job: &Job, entry: &'a FileEntry) -> Option<(&'a PointId, u64, Timestamp)> {
    let Some(Place::Vault { point, key }) = &entry.at else { return None };
    let (copy, proof) = (entry.copy.as_ref()?, entry.proof?);
    let modified = copy.modified.filter(|time| time.as_second() >= 0)?;
    let alike = entry.key == job.object.key
        && entry.category == job.category
        && entry.kind == FileKind::File
        && job.object.kind == FileKind::File
        && entry.source == job.object.side
        && entry.headers.is_empty()
        && copy.size == entry.source.size
        && copy.etag == entry.source.etag
        && copy.class == entry.source.class
        && copy.checksum.is_none()
        && copy.version.is_none()
        && copy.unix.is_none();
    let rest = key.strip_prefix(point.to_string().as_str())?.strip_prefix('/')?;
    let natural = rest.strip_prefix(job.category.as_str())?.strip_prefix('/')? == job.object.key;
    let number = PROOFS.iter().position(|known| *known == proof)?;
    (alike && natural).then_some((point, number as u64, modified))
}

/// Reads jobs back.
pub(super) struct WorkReader {
    from: BufReader<File>,
    what: String,
    jobs: std::vec::IntoIter<Job>,
    points: Vec<PointId>,
}

impl WorkReader {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let what = format!("cannot read `{}`", path.display());
        let file = File::open(path).map_err(|cause| Error::local(&what, cause))?;
        Ok(Self { from: BufReader::new(file), what, jobs: Vec::new().into_iter(), points: Vec::new() })
    }

    fn take(&mut self) -> Result<Option<Job>> {
        if let Some(job) = self.jobs.next() {
            return Ok(Some(job));
        }
        let Some(block) = read_block(&mut self.from).map_err(|cause| Error::local(&self.what, cause))? else {
            return Ok(None);
        };
        let (mut unpacker, mut rest, mut jobs) = (Unpacker::default(), &block[..], Vec::with_capacity(BLOCK));
        while !rest.is_empty() {
            let cut = || Error::local(&self.what, std::io::ErrorKind::InvalidData.into());
            jobs.push(job(&mut unpacker, &mut rest, &mut self.points).ok_or_else(cut)?);
        }
        self.jobs = jobs.into_iter();
        Ok(self.jobs.next())
    }
}

impl Iterator for WorkReader {
    type Item = Result<Job>;
    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

fn job(unpacker: &mut Unpacker, block: &mut &[u8], points: &mut Vec<PointId>) -> Option<Job> {
    let object = unpacker.take(block)?;
    let category = take_text(block)?;
    let (&kind, rest) = block.split_first()?;
    *block = rest;
    let reuse = match kind {
        COPY => None,
        LINE => Some(serde_json::from_slice(take_bytes(block)?).ok()?),
        PLAIN => {
            let point = point(block, points)?;
            let proof = *PROOFS.get(usize::try_from(take_number(block)?).ok()?)?;
            let seconds = i64::try_from(take_number(block)?).ok()?;
            let modified = Timestamp::new(seconds, i32::try_from(take_number(block)?).ok()?).ok()?;
            let key = format!("{point}/{category}/{}", object.key);
            Some(FileEntry {
                key: object.key.clone(),
                category: category.clone(),
                kind: FileKind::File,
                source: object.side.clone(),
                copy: Some(Side { modified: Some(modified), ..object.side.clone() }),
                at: Some(Place::Vault { point, key }),
                proof: Some(proof),
                headers: std::collections::BTreeMap::new(),
            })
        }
        _ => return None,
    };
    Some(Job { object, category, reuse })
}

fn point(block: &mut &[u8], points: &mut Vec<PointId>) -> Option<PointId> {
    let number = usize::try_from(take_number(block)?).ok()?;
    if number == 0 {
        points.push(take_text(block)?.parse().ok()?);
        return points.last().cloned();
    }
    points.get(number - 1).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reused(job: &Job, point: &str, key: &str) -> FileEntry {
        FileEntry {
            key: job.object.key.clone(),
            category: job.category.clone(),
            kind: job.object.kind.clone(),
            source: job.object.side.clone(),
            copy: Some(Side { modified: Timestamp::new(1_800_000_000, 5).ok(), ..job.object.side.clone() }),
            at: Some(Place::Vault { point: point.parse().expect("a point"), key: key.to_owned() }),
            proof: Some(ProofKind::Etag),
            headers: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn jobs_come_back_as_they_were() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("work");
        let etag = Some("d41d8cd98f00b204e9800998ecf8427e".to_owned());
        let mut jobs = Vec::new();
        for number in 0..1_000_u64 {
            let side = Side { size: number, etag: etag.clone(), ..Side::default() };
            let object = Object { key: format!("a/{number:04}"), side, kind: FileKind::File };
            let mut job = Job { object, category: "other".into(), reuse: None };
            let point = ["reimport_20251115_064233", "nightly_20251116_064233"][usize::from(number % 3 == 0)];
            let own = format!("{point}/other/{}", job.object.key);
            let entry = reused(&job, point, &own);
            job.reuse = match number % 7 {
                0 => None,
                1 => Some(reused(&job, point, &format!("{point}/other/.long/00"))),
                2 => Some(FileEntry { headers: [("content-type".into(), "x".into())].into(), ..entry }),
                3 => Some(FileEntry { category: "images".into(), ..entry }),
                4 => Some(FileEntry { proof: None, ..entry }),
                5 => Some(FileEntry {
                    source: Side { checksum: Some("sha256:00".into()), ..entry.source.clone() },
                    ..entry
                }),
                _ => Some(entry),
            };
            jobs.push(job);
        }
        let mut writer = WorkWriter::create(&path).expect("room");
        for job in &jobs {
            writer.push(job).expect("room");
        }
        writer.finish().expect("room");
        let back: Vec<Job> = WorkReader::open(&path).expect("a file").map(|job| job.expect("a job")).collect();
        assert_eq!(back, jobs);
        let bytes = std::fs::read(&path).expect("a file");
        std::fs::write(&path, &bytes[..bytes.len() - 3]).expect("room");
        assert!(WorkReader::open(&path).expect("a file").any(|job| job.is_err()));
    }
}
