//! Columns whose values are keys of files, and what comparing them with the files came to.

use serde::{Deserialize, Serialize};

use super::Count;

/// A column whose values are keys of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The table: its own name in the database, or the name that its records go by.
    pub table: String,
    /// The column.
    pub column: String,
    /// What is put before a value to make a key of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The folder or URL that is taken from a value's beginning first; `*` stands for anything but `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// References of a point, and what comparing rows with files came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct References {
    /// The columns that were to be checked.
    pub columns: Vec<ReferenceColumn>,
    /// Files that no row names, but for those that are newer than the rows; absent when nothing was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned: Option<Count>,
    /// Why nothing was checked, in a person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
}

/// A column, and what was found of its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceColumn {
    /// The column.
    #[serde(flatten)]
    pub reference: Reference,
    /// What was found; absent when it was not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<ReferenceCounts>,
}

/// Rows of a column by what became of the files they name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceCounts {
    /// Rows with a value: neither NULL nor an empty text.
    pub named: u64,
    /// Rows whose file is not among the files of the point, not even under a name that is written a little differently.
    ///
    /// A file that the rules left out is not among them, nor is what is no file: a symbolic link, a folder.
    pub dangling: u64,
    /// Rows whose file is there only under a name that differs in case.
    pub other_case: u64,
    /// Rows whose file is there only under a name that is the same text in another Unicode form.
    pub other_form: u64,
    /// Rows whose file is there and is named by another row as well.
    pub shared: u64,
}

impl ReferenceCounts {
    /// Rows whose file is not there under the very name they have.
    pub fn broken(&self) -> u64 {
        self.dangling + self.other_case + self.other_form
    }
}

impl References {
    /// Of columns that could not be checked, the reason.
    pub fn unchecked(references: &[Reference], reason: impl Into<String>) -> Self {
        let column = |reference: &Reference| ReferenceColumn { reference: reference.clone(), counts: None };
        Self { columns: references.iter().map(column).collect(), orphaned: None, unchecked: Some(reason.into()) }
    }

    /// All columns together; none when nothing was checked.
    pub fn total(&self) -> Option<ReferenceCounts> {
        if self.unchecked.is_some() {
            return None;
        }
        let add = |sum: ReferenceCounts, one: ReferenceCounts| ReferenceCounts {
            named: sum.named + one.named,
            dangling: sum.dangling + one.dangling,
            other_case: sum.other_case + one.other_case,
            other_form: sum.other_form + one.other_form,
            shared: sum.shared + one.shared,
        };
        self.columns
            .iter()
            .map(|column| column.counts)
            .try_fold(ReferenceCounts::default(), |sum, one| Some(add(sum, one?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_checked_has_no_total_even_without_columns() {
        assert_eq!(References::unchecked(&[], "the point has no files").total(), None);
        assert_eq!(References::default().total(), Some(ReferenceCounts::default()));
    }
}
