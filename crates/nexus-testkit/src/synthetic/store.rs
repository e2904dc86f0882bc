//! What a bucket holds: documents in memory, copies of generated objects as bits.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::keys::{Keys, Said};

/// A stored document.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub bytes: Bytes,
    pub said: Said,
    pub content_type: Option<String>,
}

/// Copies of generated objects below one prefix.
#[derive(Debug)]
pub(super) struct Copies {
    pub root: String,
    there: Vec<u64>,
    /// Which are copies of what an object became when it changed.
    changed: Vec<u64>,
    at: i64,
}

/// One bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub documents: BTreeMap<String, Document>,
    pub copies: Vec<Copies>,
    /// Those parts of multipart uploads that came, by upload id and number.
    pub uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
}

impl Copies {
    /// None, or all of them.
    pub fn new(root: String, keys: &Keys, all: u64, at: i64) -> Self {
        let words = usize::try_from(keys.count().div_ceil(64)).expect("it fits in memory");
        Self { root, there: vec![all; words], changed: vec![0; words], at }
    }

    /// Adds a copy.
    pub fn set(&mut self, number: u64, changed: bool) {
        let (word, bit) = place(number);
        self.there[word] |= bit;
        if changed {
            self.changed[word] |= bit;
        }
    }

    /// The first copy from a number on, and whether it is one of a changed object.
    pub fn next(&self, keys: &Keys, from: u64) -> Option<(u64, bool)> {
        let mut number = from;
        while number < keys.count() {
            let (word, bit) = place(number);
            let rest = self.there[word] & !(bit - 1);
            if rest == 0 {
                number = (number / 64 + 1) * 64;
                continue;
            }
            number = number / 64 * 64 + u64::from(rest.trailing_zeros());
            return (number < keys.count()).then(|| (number, self.changed[word] & place(number).1 != 0));
        }
        None
    }

    /// What is said of a copy.
    pub fn said(&self, keys: &Keys, number: u64, changed: bool) -> Said {
        Said { modified: self.at, ..keys.said(number, changed) }
    }

    /// Removes a copy.
    pub fn unset(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.there[word] &= !bit;
        self.changed[word] &= !bit;
    }
}

impl Bucket {
    /// The copy that a key names.
    pub fn copy(&self, keys: &Keys, key: &str) -> Option<(&Copies, u64, bool)> {
        self.copies.iter().find_map(|copies| {
            let number = keys.number(key.strip_prefix(copies.root.as_str())?)?;
            let (found, changed) = copies.next(keys, number)?;
            (found == number).then_some((copies, number, changed))
        })
    }

    /// The copies below a prefix, made when there are none yet.
    pub fn copies_below(&mut self, root: &str, keys: &Keys, at: i64) -> &mut Copies {
        if let Some(found) = self.copies.iter().position(|copies| copies.root == root) {
            return &mut self.copies[found];
        }
        self.copies.push(Copies::new(root.to_owned(), keys, 0, at));
        self.copies.last_mut().expect("it was just pushed")
    }
}

fn place(number: u64) -> (usize, u64) {
    (usize::try_from(number / 64).expect("it fits in memory"), 1 << (number % 64))
}
