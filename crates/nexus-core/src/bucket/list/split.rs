//! Where a long range of keys is split: at a folder that the service has named, else between bytes that its keys have.
//!
//! A bad middle costs a request and loses nothing: ranges meet wherever they are split.

use crate::bucket::Object;

/// Bytes that keys have shown.
#[derive(Debug, Clone)]
pub(super) struct Seen([bool; 128]);

impl Default for Seen {
    fn default() -> Self {
        Self([false; 128])
    }
}

impl Seen {
    /// Looks at the first and the last key of a page: enough of them are seen in time.
    pub(super) fn add(&mut self, objects: &[Object]) {
        for object in objects.first().into_iter().chain(objects.last()) {
            for byte in object.key.bytes() {
                if let Some(seen) = self.0.get_mut(usize::from(byte)) {
                    *seen = true;
                }
            }
        }
    }

    /// The middle one of those between two bytes.
    fn middle(&self, low: Option<u8>, high: Option<u8>) -> Option<u8> {
        let low = low.map_or(b' ', |low| low.saturating_add(1).max(b' '));
        let high = high.unwrap_or(127).min(127);
        let between: Vec<u8> = (low..high).filter(|byte| self.0[usize::from(*byte)]).collect();
        between.get(between.len() / 2).copied()
    }
}

/// A key behind the first of two, and before the second or the end of the prefix.
pub(super) fn middle(
    (low, high): (&str, Option<&str>),
    prefix: &str,
    folders: &[String],
    seen: &Seen,
) -> Option<String> {
    let first = folders.partition_point(|folder| folder.as_str() <= low);
    let end = high.map_or(folders.len(), |high| folders.partition_point(|folder| folder.as_str() < high));
    if first < end && folders[first].starts_with(prefix) {
        return Some(folders[first + (end - first) / 2].clone());
    }
    let bytes = low.as_bytes();
    let shared = match high {
        Some(high) => bytes.iter().zip(high.as_bytes()).take_while(|(left, right)| left == right).count(),
        None => prefix.len(),
    };
    // Where they part, both are bounds; behind that, only the first one is.
    let mut upper = high.and_then(|high| high.as_bytes().get(shared).copied());
    for at in shared..=bytes.len() {
        if low.is_char_boundary(at)
            && let Some(byte) = seen.middle(bytes.get(at).copied(), upper)
        {
            return Some(format!("{}{}", &low[..at], char::from(byte)));
        }
        upper = None;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::{FileKind, Side};

    fn seen(keys: &[&str]) -> Seen {
        let mut seen = Seen::default();
        for key in keys {
            seen.add(&[Object { key: (*key).to_owned(), side: Side::default(), kind: FileKind::File }]);
        }
        seen
    }

    #[test]
    fn a_middle_lies_between() {
        let seen = seen(&["photos/0123456789abcdef-ä.bin"]);
        let bounds = [
            "",
            "photos/",
            "photos/0000001.bin",
            "photos/00001",
            "photos/09",
            "photos/a",
            "photos/ab",
            "photos/ä",
            "q",
        ];
        for (at, low) in bounds.iter().enumerate() {
            for high in bounds[at + 1..].iter().map(|high| Some(*high)).chain([None]) {
                if let Some(middle) = middle((low, high), "", &[], &seen) {
                    assert!(middle.as_str() > *low, "{middle} behind {low}");
                    assert!(high.is_none_or(|high| middle.as_str() < high), "{middle} before {high:?}");
                }
            }
        }
    }

    #[test]
    fn a_folder_that_the_service_named_comes_first() {
        let folders: Vec<String> = ["a/", "b/", "c/", "d/"].map(str::to_owned).into();
        assert_eq!(middle(("a/1", None), "", &folders, &seen(&[])).as_deref(), Some("c/"));
        assert_eq!(middle(("a/1", Some("c/")), "", &folders, &seen(&[])).as_deref(), Some("b/"));
        assert_eq!(middle(("d/1", None), "", &folders, &seen(&[])), None);
    }

    #[test]
    fn halving_comes_to_the_keys_that_are_there() {
        // Eight digits, of which the first two are always the same: what lies above is found empty step by step.
        let seen = seen(&["photos/0123456789.bin"]);
        let (low, mut high) = ("photos/00040000.bin", None::<String>);
        let misses = (0..40).take_while(|_| {
            high = middle((low, high.as_deref()), "photos/", &[], &seen);
            high.as_deref().is_some_and(|middle| middle > "photos/04999999.bin")
        });
        assert!(misses.count() <= 16, "{high:?}");
    }
}
