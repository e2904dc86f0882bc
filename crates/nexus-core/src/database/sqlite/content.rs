//! Where the rows of a virtual table come from, as the text that made it says.

use rusqlite::Connection;

use crate::error::Result;

use super::open::failed;
use super::tables::Table;

/// Where a table's rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// From itself.
    Own,
    /// An index of the text in this table, from which it is made anew.
    Elsewhere(String),
    /// A module computes them, or keeps an index and no text.
    Nowhere,
}

impl Content {
    /// Source: <https://www.sqlite.org/fts5.html>, "External Content and Contentless Tables".
    pub(super) fn of(connection: &Connection, table: &Table) -> Result<Self> {
        if !table.is_virtual {
            return Ok(Self::Own);
        }
        let sql: String = connection
            .query_row("SELECT coalesce(sql, '') FROM main.sqlite_schema WHERE name = ?1", [&table.name], |row| {
                row.get(0)
            })
            .map_err(|cause| failed(format!("cannot read what `{}` is", table.name), cause))?;
        Ok(Self::said_by(&sql))
    }

    fn said_by(sql: &str) -> Self {
        let Some((_, module)) = split_at_word(sql, "using") else { return Self::Nowhere };
        let (name, arguments) = module.split_once('(').unwrap_or((module, ""));
        let name = name.trim().to_ascii_lowercase();
        if !matches!(name.as_str(), "fts3" | "fts4" | "fts5") {
            return if matches!(name.as_str(), "rtree" | "rtree_i32") { Self::Own } else { Self::Nowhere };
        }
        let option = arguments.split(',').find_map(|argument| {
            let (option, value) = argument.split_once('=')?;
            option.trim().eq_ignore_ascii_case("content").then(|| value.trim().trim_end_matches(')').trim())
        });
        match option.map(|value| value.trim_matches(['"', '\'', '`', '[', ']'])) {
            None => Self::Own,
            Some("") => Self::Nowhere,
            Some(of) => Self::Elsewhere(of.to_owned()),
        }
    }
}

/// What comes before and after a word, in any case of letters.
fn split_at_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let lower = text.to_ascii_lowercase();
    let at = lower.match_indices(word).map(|(at, _)| at).find(|at| {
        let blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        blank(at.checked_sub(1).and_then(|before| lower.as_bytes().get(before)))
            && blank(lower.as_bytes().get(at + word.len()))
    })?;
    Some((&text[..at], &text[at + word.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_index_has_its_text_is_read_from_its_options() {
        let elsewhere = Content::Elsewhere("patient".to_owned());
        for (sql, content) in [
            ("CREATE VIRTUAL TABLE a USING fts5(body)", Content::Own),
            ("CREATE VIRTUAL TABLE a USING fts5(body, content='patient', content_rowid='id')", elsewhere.clone()),
            ("create virtual table \"using x\" using FTS4 (content=\"patient\", name)", elsewhere.clone()),
            ("CREATE VIRTUAL TABLE a USING fts5(x, content = patient)", elsewhere),
            ("CREATE VIRTUAL TABLE a USING fts5(x, content='')", Content::Nowhere),
            ("CREATE VIRTUAL TABLE a USING fts5vocab('words', 'row')", Content::Nowhere),
            ("CREATE VIRTUAL TABLE a USING rtree(id, x, y)", Content::Own),
        ] {
            assert_eq!(Content::said_by(sql), content, "{sql}");
        }
    }
}
