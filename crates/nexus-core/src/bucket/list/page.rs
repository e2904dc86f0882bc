//! One page of a listing, by whichever version of the request the service knows.

use std::sync::atomic::Ordering;

use aws_sdk_s3::types::EncodingType;

use super::answer::{Answer, Line, Unread};
use crate::bucket::Object;
use crate::bucket::failure::{FailureKind, failure};
use crate::bucket::s3::{S3, decode};
use crate::error::{Error, Result};
use crate::listing::{FileKind, Side};

/// What a page is asked for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) prefix: String,
    pub(super) cursor: Cursor,
    delimiter: Option<&'static str>,
    places: Circle,
    /// The same of what the pages hold: a service may give another place each time and the same page.
    pages: Circle,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cursor {
    /// At the first key of the prefix, or at the first behind a key.
    Start(Option<String>),
    /// Where the page before said.
    Token(String),
    /// The same of the first version of the request: behind a key.
    Marker(String),
}

/// What a page holds.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    pub(super) folders: Vec<Named>,
    /// Where the next one begins, if there is one.
    pub(super) next: Option<Cursor>,
}

/// A folder as a page names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// Its whole prefix, up to and with the slash.
    pub(super) prefix: String,
    /// The same before it was read as an URL's: what it is called where a service spells only keys so.
    pub(super) spelled: String,
}

/// Tells that places come again, however many there are, by one of them: it is kept for as long as twice as many pages as
/// the one before (<https://en.wikipedia.org/wiki/Cycle_detection#Brent's_algorithm>).
#[derive(Debug, Clone, Default)]
struct Circle {
    kept: Option<String>,
    since: u64,
    pages: u64,
}

impl Circle {
    fn closes(&mut self, place: &str) -> bool {
        if self.kept.as_deref() == Some(place) {
            return true;
        }
        self.since += 1;
        if self.since > self.pages {
            (self.since, self.pages) = (0, self.pages * 2 + 1);
            self.kept = Some(place.to_owned());
        }
        false
    }
}

impl Query {
    pub(super) fn of(prefix: &str, cursor: Cursor) -> Self {
        Self { prefix: prefix.to_owned(), cursor, delimiter: None, places: Circle::default(), pages: Circle::default() }
    }

    pub(super) fn by_folder(self) -> Self {
        Self { delimiter: Some("/"), ..self }
    }
}

impl S3 {
    /// Asks for a page. Where it says that there is more, it says where, and that is another place than before.
    pub(super) async fn page(&self, query: &mut Query) -> Result<Page> {
        let _turn = self.shown().pages.acquire().await.expect("this semaphore is never closed");
        let first_version = &self.shown().first_version;
        // A token is the second version's own.
        let second = match query.cursor {
            Cursor::Token(_) => true,
            Cursor::Marker(_) => false,
            Cursor::Start(_) => !first_version.load(Ordering::Relaxed),
        };
        let answered = if second { self.second_version(query).await? } else { None };
        let page = if let Some(page) = answered {
            page
        } else {
            let page = self.first_version(query).await?;
            first_version.store(true, Ordering::Relaxed);
            page
        };
        if let Some(Cursor::Token(place) | Cursor::Marker(place)) = &page.next {
            let back = matches!(&query.cursor, Cursor::Token(before) | Cursor::Marker(before) if before == place);
            // Two pages with something between them do not begin and end alike.
            let held = page.objects.first().zip(page.objects.last());
            let same = held.is_some_and(|(first, last)| query.pages.closes(&format!("{}\0{}", first.key, last.key)));
            if back || query.places.closes(place) || same {
                return Err(self.unlistable(query, "the service repeats its pages"));
            }
        }
        Ok(page)
    }

    /// `None` where the service does not know this version of the request.
    async fn second_version(&self, query: &Query) -> Result<Option<Page>> {
        let (after, token) = match &query.cursor {
            Cursor::Start(after) => (after.clone(), None),
            Cursor::Token(token) => (None, Some(token.clone())),
            Cursor::Marker(_) => (None, None),
        };
        let answered = self
            .attempt(0, async || {
                let request = self.client().list_objects_v2().bucket(self.name()).prefix(&query.prefix);
                let request =
                    request.encoding_type(EncodingType::Url).set_delimiter(query.delimiter.map(str::to_owned));
                let request = request.set_start_after(after.clone()).set_continuation_token(token.clone());
                let answer = Unread::default();
                request.customize().interceptor(answer.clone()).send().await.map_err(failure)?;
                answer.read().await
            })
            .await;
        match answered {
            Ok(answer) => self.read_second(query, answer).map(Some),
            // One that begins at no key may know this version all the same.
            Err(failure) if failure.kind == FailureKind::Unsupported && token.is_none() && after.is_none() => Ok(None),
            Err(failure) => Err(failure.into_error(self.at(query))),
        }
    }

    async fn first_version(&self, query: &Query) -> Result<Page> {
        let marker = match &query.cursor {
            Cursor::Start(after) => after.clone(),
            Cursor::Marker(key) => Some(key.clone()),
            Cursor::Token(_) => None,
        };
        let answer = self
            .attempt(0, async || {
                let request = self.client().list_objects().bucket(self.name()).prefix(&query.prefix);
                let request =
                    request.encoding_type(EncodingType::Url).set_delimiter(query.delimiter.map(str::to_owned));
                let request = request.set_marker(marker.clone());
                let answer = Unread::default();
                request.customize().interceptor(answer.clone()).send().await.map_err(failure)?;
                answer.read().await
            })
            .await
            .map_err(|failure| failure.into_error(self.at(query)))?;
        self.read_first(query, answer)
    }

    fn read_second(&self, query: &Query, mut answer: Answer) -> Result<Page> {
        let more = self.goes_on(query, answer.truncated)?;
        let token = answer.token.take();
        let mut read = self.read_lines(query, answer)?;
        if more {
            // Services that know only the first version answer as if it had been asked for.
            let next = token.map(Cursor::Token).or_else(|| last(&read));
            read.next = Some(next.ok_or_else(|| self.nowhere(query))?);
        }
        Ok(read)
    }

    /// Amazon S3 says where to go on only when folders were asked for; else it is behind the last key
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html>).
    fn read_first(&self, query: &Query, answer: Answer) -> Result<Page> {
        let more = self.goes_on(query, answer.truncated)?;
        let said = answer.marker.as_deref().and_then(|text| decode(text, answer.encoded)).map(Cursor::Marker);
        let mut read = self.read_lines(query, answer)?;
        if more {
            // Without folders the last key says the same, and it is certain how that is spelled.
            let next = if query.delimiter.is_some() { said.or(last(&read)) } else { last(&read).or(said) };
            read.next = Some(next.ok_or_else(|| self.nowhere(query))?);
        }
        Ok(read)
    }

    fn read_lines(&self, query: &Query, answer: Answer) -> Result<Page> {
        let encoded = answer.encoded;
        let mut read = Page { objects: Vec::with_capacity(answer.contents.len()), ..Page::default() };
        for line in answer.contents {
            let object = object(line, encoded)
                .ok_or_else(|| self.unlistable(query, "the service lists an object without a usable key or size"))?;
            self.check_name(query, &object.key, encoded)?;
            read.objects.push(object);
        }
        for spelled in answer.folders {
            let prefix = decode(&spelled, encoded)
                .filter(|prefix| !prefix.is_empty())
                .ok_or_else(|| self.unlistable(query, "the service lists a folder without a usable name"))?;
            self.check_name(query, &prefix, encoded)?;
            read.folders.push(Named { prefix, spelled });
        }
        Ok(read)
    }

    fn check_name(&self, query: &Query, name: &str, encoded: bool) -> Result<()> {
        if !name.starts_with(&query.prefix) {
            return Err(self.unlistable(query, &format!("the service lists {name:?}, which lies elsewhere")));
        }
        // What XML cannot carry comes as this where keys are not spelled for URLs.
        if !encoded && name.contains('\u{fffd}') {
            let why = format!("the service does not spell keys for URLs, and so cannot say what {name:?} is called");
            return Err(self.unlistable(query, &why));
        }
        Ok(())
    }

    /// Whether there is anything under a prefix, by one page.
    pub(super) async fn has_any(&self, prefix: &str) -> Result<bool> {
        let page = self.page(&mut Query::of(prefix, Cursor::Start(None))).await?;
        Ok(!page.objects.is_empty() || page.next.is_some())
    }

    /// What was attempted.
    fn at(&self, query: &Query) -> String {
        let place = format!("cannot list s3://{}/{}", self.name(), query.prefix);
        match &query.cursor {
            Cursor::Start(None) | Cursor::Token(_) => place,
            Cursor::Start(Some(key)) | Cursor::Marker(key) => format!("{place} behind {key:?}"),
        }
    }

    /// Whether there are more pages. One that does not say so is not taken for the last.
    fn goes_on(&self, query: &Query, said: Option<bool>) -> Result<bool> {
        said.ok_or_else(|| self.unlistable(query, "the service does not say whether there is more"))
    }

    fn nowhere(&self, query: &Query) -> Error {
        self.unlistable(query, "the service says there is more and does not say where to go on")
    }

    /// What the service answers cannot be relied on.
    pub(super) fn unlistable(&self, query: &Query, why: &str) -> Error {
        Error::Unsupported {
            what: format!(
                "{}: {why}; see what `aws s3api list-objects-v2 --bucket {}` makes of it, and ask the service's maker",
                self.at(query),
                self.name()
            ),
        }
    }
}

fn object(line: Line, encoded: bool) -> Option<Object> {
    let Line { key, size, etag, modified, class } = line;
    let side = Side { size: size?, etag, modified, class, ..Side::default() };
    Some(Object { key: decode(&key?, encoded)?, side, kind: FileKind::File })
}

/// The last thing on a page; where it has folders, too, the last in byte order.
fn last(page: &Page) -> Option<Cursor> {
    let key = page.objects.last().map(|object| &object.key);
    key.into_iter().chain(page.folders.iter().map(|folder| &folder.prefix)).max().cloned().map(Cursor::Marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_come_again_are_noticed_however_many_there_are() {
        for circle in [1, 2, 3, 10, 1_000] {
            let mut noticed = Circle::default();
            let most = 4 * circle + 4;
            assert!((0..most).any(|page| noticed.closes(&format!("{}", page % circle))), "{most} pages of {circle}");
        }
        let mut never = Circle::default();
        assert!((0..10_000).all(|page| !never.closes(&format!("{page}"))));
    }
}
