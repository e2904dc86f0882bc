//! The clinic's files: what they are called, and bytes that begin and end as their kind does.

use crate::object::NewObject;
use crate::store::{NoSuchBucket, Store};

use super::ClinicSize;
use super::random::Random;
use super::words::{KINDS, LAST_NAMES};

/// The keys that rows name, one a row; the first ones have their object.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub documents: Vec<String>,
    pub images: Vec<String>,
}

/// The kinds of files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Jpeg,
    Png,
    Pdf,
    Docx,
    Csv,
}

/// Chooses the keys.
pub(super) fn named(size: &ClinicSize, random: &mut Random) -> Named {
    Named {
        documents: (1..=size.documents).map(|id| document_key(id, random)).collect(),
        images: (1..=size.images).map(|id| image_key(id, size, random)).collect(),
    }
}

/// Puts the objects into the bucket and answers how many bytes they have.
///
/// Which rows are left without is spread over all of them, as it is in life.
pub(super) fn store(
    size: &ClinicSize,
    named: &Named,
    store: &Store,
    bucket: &str,
    random: &mut Random,
) -> Result<u64, NoSuchBucket> {
    let documents = spread(&named.documents, size.document_objects());
    let images = spread(&named.images, size.image_objects());
    let orphans: Vec<String> = (1..=size.orphans()).map(|id| orphan_key(id, random)).collect();
    let mut bytes = 0;
    for key in documents.chain(images).chain(&orphans) {
        let object = object(key, random);
        bytes += object.body.len() as u64;
        store.put(bucket, key, object)?;
    }
    Ok(bytes)
}

/// This many of the keys, evenly spread over all.
fn spread(keys: &[String], wanted: u64) -> impl Iterator<Item = &String> {
    let all = keys.len() as u64;
    (0..all).zip(keys).filter(move |(index, _)| (index + 1) * wanted / all > index * wanted / all).map(|(_, key)| key)
}

fn document_key(id: u64, random: &mut Random) -> String {
    let (year, month) = (2016 + random.below(10), 1 + random.below(12));
    let (kind, name) = (random.pick(&KINDS), random.pick(&LAST_NAMES));
    let end = if random.percent(75) { "pdf" } else { "docx" };
    match random.below(12) {
        0 => format!("documents/{year}/{month:02}/{kind} {name} {id}.{end}"),
        1 => format!("documents/{year}/{month:02}/{kind}+{name}_{id}.{end}"),
        2 => format!("documents/{year}/{month:02}/{name} ({kind}) 100% #{id}.{end}"),
        _ => format!("documents/{year}/{month:02}/scan_{id:05}_{:08x}.{end}", random.below(1 << 32)),
    }
}

fn image_key(id: u64, size: &ClinicSize, random: &mut Random) -> String {
    let patient = 1 + random.below(size.patients);
    match random.below(20) {
        0..4 => format!("images/{}/{patient:05}_{id}.png", 2016 + random.below(10)),
        4 => format!("images/Röntgen {patient:05}/Aufnahme {id}.png"),
        _ => {
            let batch = 1 + random.below(size.batches);
            format!("filemaker-import/images-bulk-dump/batch-{batch:04}/P{patient:05}_IMG_{id:05}.jpg")
        }
    }
}

fn orphan_key(id: u64, random: &mut Random) -> String {
    match random.below(10) {
        0..5 => format!("filemaker-import/images-bulk-dump/unmatched/IMG_{id:05}.jpg"),
        5..8 => format!("documents/superseded/scan_{id:05}_alt.pdf"),
        8 => format!("exports/{}/abrechnung_{id}.csv", 2016 + random.below(10)),
        _ => format!("exports/übergabe + liste {id}.csv"),
    }
}

fn object(key: &str, random: &mut Random) -> NewObject {
    let kind = Kind::of(key);
    let mut object = NewObject::new(kind.body(random)).content_type(kind.content_type());
    if random.percent(20) {
        let user = format!("user{}", 1 + random.below(12));
        object = object.metadata("uploaded-by", &user).metadata("scanner", "Kodak i2620");
    }
    if kind == Kind::Pdf && random.percent(4) {
        object = object.storage_class("STANDARD_IA");
    }
    if kind == Kind::Docx {
        object.fields.content_disposition = Some("attachment".to_owned());
    }
    if kind == Kind::Png {
        object.fields.cache_control = Some("private, max-age=3600".to_owned());
    }
    object
}

impl Kind {
    fn of(key: &str) -> Self {
        match key.rsplit('.').next() {
            Some("jpg") => Self::Jpeg,
            Some("png") => Self::Png,
            Some("pdf") => Self::Pdf,
            Some("docx") => Self::Docx,
            _ => Self::Csv,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    fn frame(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Jpeg => (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00", b"\xff\xd9"),
            Self::Png => (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"\x00\x00\x00\x00IEND\xaeB`\x82"),
            Self::Pdf => (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", b"\nstartxref\n0\n%%EOF\n"),
            Self::Docx => (b"PK\x03\x04\x14\x00\x06\x00\x08\x00", b"PK\x05\x06\x00\x00\x00\x00"),
            Self::Csv => ("Datum;Patient;Betrag\n".as_bytes(), b"\n"),
        }
    }

    /// Some hundred bytes to 20 kB, most of them small.
    fn body(self, random: &mut Random) -> Vec<u8> {
        let cube = random.below(1_000).pow(3);
        let length = 300 + usize::try_from(cube * 19_000 / 1_000_000_000).unwrap_or(0);
        let (head, tail) = self.frame();
        let mut body = head.to_vec();
        match self {
            Self::Csv => {
                while body.len() < length {
                    let row = format!("{};{};{}\n", random.date(2016, 2025), random.below(2_842), random.below(900));
                    body.extend_from_slice(row.as_bytes());
                }
            }
            _ => body.extend_from_slice(&random.bytes(length)),
        }
        body.extend_from_slice(tail);
        body
    }
}
