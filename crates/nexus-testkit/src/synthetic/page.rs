//! One page of a listing: documents, copies and generated objects merged in byte order.

use std::collections::btree_map::Range;
use std::ops::Bound;

use super::keys::{Keys, Said};
use super::store::{Bucket, Copies, Document};

/// What a page is asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Only keys behind this one.
    pub after: String,
    /// And none below this: they were rolled up on the page before.
    pub past: Option<String>,
    pub limit: usize,
}

/// One line of a page.
pub(super) enum Line {
    Object(String, Said),
    Folder(String),
}

/// A page, and whether there is more.
pub(super) struct Page {
    pub lines: Vec<Line>,
    pub more: bool,
}

/// Objects of one kind, from a bound on.
enum Source<'a> {
    Documents(Range<'a, String, Document>),
    Generated { keys: &'a Keys, next: u64, changed: bool },
    Copies { keys: &'a Keys, copies: &'a Copies, next: u64 },
}

impl Source<'_> {
    fn next(&mut self) -> Option<(String, Said)> {
        match self {
            Self::Documents(range) => range.next().map(|(key, document)| (key.clone(), document.said.clone())),
            Self::Generated { keys, next, changed } => {
                let number = *next;
                *next += 1;
                (number < keys.count())
                    .then(|| (keys.key(number), keys.said(number, *changed && Keys::may_change(number))))
            }
            Self::Copies { keys, copies, next } => {
                let (number, changed) = copies.next(keys, *next)?;
                *next = number + 1;
                Some((format!("{}{}", copies.root, keys.key(number)), copies.said(keys, number, changed)))
            }
        }
    }
}

/// A bucket with the generated objects in it, if it is theirs.
pub(super) struct Shelf<'a> {
    pub bucket: &'a Bucket,
    pub keys: &'a Keys,
    pub generated: bool,
    pub changed: bool,
}

impl<'a> Shelf<'a> {
    fn from(&self, from: &str) -> Vec<(Source<'a>, Option<(String, Said)>)> {
        let keys = self.keys;
        let range = self.bucket.documents.range::<str, _>((Bound::Included(from), Bound::Unbounded));
        let mut sources = vec![Source::Documents(range)];
        if self.generated {
            sources.push(Source::Generated { keys, next: keys.first_from(from), changed: self.changed });
        }
        for copies in &self.bucket.copies {
            let next = match from.strip_prefix(copies.root.as_str()) {
                Some(rest) => keys.first_from(rest),
                None if from <= copies.root.as_str() => 0,
                None => continue,
            };
            sources.push(Source::Copies { keys, copies, next });
        }
        sources.into_iter().map(|mut source| (source.next(), source)).map(|(head, source)| (source, head)).collect()
    }

    /// The page that is asked for.
    pub fn page(&self, asked: &Asked) -> Page {
        let mut page = Page { lines: Vec::new(), more: false };
        // The least key behind another one is that key with a NUL.
        let behind = if asked.after.is_empty() { String::new() } else { format!("{}\0", asked.after) };
        let mut from = behind.max(asked.prefix.clone());
        if let Some(past) = &asked.past {
            from = from.max(far_behind(past));
        }
        let mut heads = self.from(&from);
        loop {
            let least = heads.iter_mut().filter(|(_, head)| head.is_some());
            let Some((source, head)) =
                least.min_by(|(_, one), (_, two)| key_of(one.as_ref()).cmp(&key_of(two.as_ref())))
            else {
                return page;
            };
            let Some((key, said)) = std::mem::replace(head, source.next()) else { return page };
            let Some(rest) = key.strip_prefix(asked.prefix.as_str()) else { return page };
            if page.lines.len() == asked.limit {
                page.more = true;
                return page;
            }
            let end = asked.delimiter.as_ref().and_then(|text| rest.find(text.as_str()).map(|at| at + text.len()));
            match end {
                Some(end) => {
                    let folder = key[..asked.prefix.len() + end].to_owned();
                    heads = self.from(&far_behind(&folder));
                    page.lines.push(Line::Folder(folder));
                }
                None => page.lines.push(Line::Object(key, said)),
            }
        }
    }
}

fn key_of(head: Option<&(String, Said)>) -> Option<&str> {
    head.map(|(key, _)| key.as_str())
}

/// Behind all that begins with a prefix.
fn far_behind(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}
