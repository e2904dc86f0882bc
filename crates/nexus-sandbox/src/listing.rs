//! One page of a listing, decided from the keys alone.
//!
//! A page costs one search and its own length, however many objects the bucket holds: keys behind a
//! common prefix are jumped over, not walked through.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::object::StoredObject;

/// What a page is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageQuery {
    pub prefix: String,
    /// Never empty.
    pub delimiter: Option<String>,
    pub position: Position,
    pub limit: usize,
}

/// Where a page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Only keys behind this one.
    pub after: String,
    /// No keys that begin with this: they were rolled up on the page before.
    pub past: Option<String>,
}

/// A page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub objects: Vec<(String, Arc<StoredObject>)>,
    pub prefixes: Vec<String>,
    /// Where the next page begins, if there is one.
    pub next: Option<Position>,
}

/// The order in which keys are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order of the keys' UTF-8 bytes.
    Bytes,
    /// The order in which a walk of directories finds them: name by name.
    Walk,
}

impl Position {
    /// An opaque string from which this can be had back.
    pub fn token(&self) -> String {
        let text = match &self.past {
            Some(prefix) => format!("p{prefix}"),
            None => format!("k{}", self.after),
        };
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads what [`Position::token`] wrote.
    pub fn of_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        if let Some(prefix) = text.strip_prefix('p') {
            return Some(Self::behind_prefix(prefix));
        }
        text.strip_prefix('k').map(Self::behind_key)
    }

    /// Behind one key.
    pub fn behind_key(key: &str) -> Self {
        Self { after: key.to_owned(), past: None }
    }

    /// Behind everything that begins with this prefix.
    pub fn behind_prefix(prefix: &str) -> Self {
        Self { after: prefix.to_owned(), past: Some(prefix.to_owned()) }
    }
}

/// The page that `query` asks for.
pub(crate) fn page(objects: &BTreeMap<String, Arc<StoredObject>>, query: &PageQuery, order: Order) -> Page {
    if query.limit == 0 {
        return Page::default();
    }
    let mut page = PageInProgress::new(query);
    match order {
        Order::Bytes => in_byte_order(objects, query, &mut page),
        Order::Walk => in_walk_order(objects, query, &mut page),
    }
    page.page
}

fn in_byte_order(objects: &BTreeMap<String, Arc<StoredObject>>, query: &PageQuery, page: &mut PageInProgress<'_>) {
    let mut from = match query.position.past.as_deref().map(far_behind) {
        Some(jump) => Bound::Included(jump),
        None => Bound::Excluded(query.position.after.clone()),
    };
    if query.prefix.as_str() > query.position.after.as_str() || query.position == Position::default() {
        from = Bound::Included(query.prefix.clone());
    }
    'jump: loop {
        for (key, object) in objects.range((from, Bound::Unbounded)) {
            if !key.starts_with(&query.prefix) {
                return;
            }
            match page.offer(key, object) {
                Offer::Taken => {}
                Offer::RolledUp(prefix) => {
                    from = Bound::Included(far_behind(&prefix));
                    continue 'jump;
                }
                Offer::Full => return,
            }
        }
        return;
    }
}

fn in_walk_order(objects: &BTreeMap<String, Arc<StoredObject>>, query: &PageQuery, page: &mut PageInProgress<'_>) {
    let after = &query.position.after;
    let mut keys: Vec<_> = objects
        .iter()
        .filter(|(key, _)| key.starts_with(&query.prefix))
        .filter(|(key, _)| after.is_empty() || walk_order(key, after) == Ordering::Greater)
        .collect();
    keys.sort_by(|(one, _), (other, _)| walk_order(one, other));
    for (key, object) in keys {
        if matches!(page.offer(key, object), Offer::Full) {
            return;
        }
    }
}

fn walk_order(one: &str, other: &str) -> Ordering {
    one.split('/').cmp(other.split('/'))
}

/// A key behind all but the strangest of the keys that begin with `prefix`.
fn far_behind(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

/// What became of a key that was offered to a page.
enum Offer {
    Taken,
    RolledUp(String),
    Full,
}

struct PageInProgress<'a> {
    query: &'a PageQuery,
    past: Option<String>,
    last: Position,
    page: Page,
}

impl<'a> PageInProgress<'a> {
    fn new(query: &'a PageQuery) -> Self {
        Self { query, past: query.position.past.clone(), last: Position::default(), page: Page::default() }
    }

    fn offer(&mut self, key: &str, object: &Arc<StoredObject>) -> Offer {
        if self.past.as_ref().is_some_and(|past| key.starts_with(past)) {
            return Offer::Taken;
        }
        if self.page.objects.len() + self.page.prefixes.len() == self.query.limit {
            self.page.next = Some(self.last.clone());
            return Offer::Full;
        }
        if let Some(prefix) = self.rolled_up(key) {
            self.last = Position::behind_prefix(&prefix);
            self.past = Some(prefix.clone());
            self.page.prefixes.push(prefix.clone());
            return Offer::RolledUp(prefix);
        }
        self.last = Position::behind_key(key);
        self.page.objects.push((key.to_owned(), Arc::clone(object)));
        Offer::Taken
    }

    fn rolled_up(&self, key: &str) -> Option<String> {
        let delimiter = self.query.delimiter.as_ref()?;
        let rest = &key[self.query.prefix.len()..];
        let end = rest.find(delimiter.as_str())? + delimiter.len();
        Some(key[..self.query.prefix.len() + end].to_owned())
    }
}
