//! Which files belong to a point, and to which category: a pure function of the key.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, Result};
use crate::point::FileRules;
use crate::vault::layout;

/// The rules of a point, ready to be asked.
pub struct Rules {
    prefix: String,
    vaults: Vec<String>,
    exclude: GlobSet,
    categories: Vec<(String, GlobSet)>,
}

impl Rules {
    /// Compiles the globs.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a glob that cannot be understood, or a category's name that a point uses itself.
    pub fn new(rules: &FileRules) -> Result<Self> {
        let mut categories = Vec::new();
        for rule in &rules.categories {
            layout::check_category(&rule.name)?;
            categories.push((rule.name.clone(), globs(&rule.globs, true)?));
        }
        Ok(Self {
            prefix: rules.prefix.clone(),
            vaults: rules.vaults.clone(),
            exclude: globs(&rules.exclude, false)?,
            categories,
        })
    }

    /// The prefix below which the source's files lie.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// True when these rules would have taken the key into a point.
    pub fn takes(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && !self.in_vault(key) && !self.exclude.is_match(key)
    }

    /// True when the key lies in a vault.
    pub fn in_vault(&self, key: &str) -> bool {
        self.vaults.iter().any(|vault| key.starts_with(vault.as_str()))
    }

    /// All categories.
    pub fn categories(&self) -> impl Iterator<Item = &str> {
        self.categories.iter().map(|(name, _)| name.as_str()).chain([layout::OTHER])
    }

    /// The category of a key: the first rule that matches.
    pub fn category(&self, key: &str) -> &str {
        let found = self.categories.iter().find(|(_, globs)| globs.is_match(key));
        found.map_or(layout::OTHER, |(name, _)| name)
    }
}

/// Compiles globs: `*` stays within a folder, `**` crosses folders; a glob without `/` is tried on the last segment.
fn globs(texts: &[String], ignore_case: bool) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        let anywhere = if text.contains('/') { text.clone() } else { format!("**/{text}") };
        let glob = GlobBuilder::new(&anywhere).literal_separator(true).case_insensitive(ignore_case).build();
        set.add(glob.map_err(|cause| {
            Error::usage_hint(
                format!("{text:?} is not a glob: {}", cause.kind()),
                "for example `documents/**` or `*.pdf`",
            )
        })?);
    }
    set.build().map_err(|cause| Error::usage(format!("these globs are too many or too large: {cause}")))
}

/// A selection of files by category and glob, for restore.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    categories: Vec<String>,
    keys: Option<GlobSet>,
    /// These keys, as they are written, and no others.
    exactly: Option<BTreeSet<String>>,
}

impl Selection {
    /// Just these keys.
    pub fn exactly(keys: impl IntoIterator<Item = String>) -> Self {
        Self { exactly: Some(keys.into_iter().collect()), ..Self::default() }
    }

    /// Empty lists select everything.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a glob that cannot be understood.
    pub fn new(categories: &[String], keys: &[String]) -> Result<Self> {
        let keys = if keys.is_empty() { None } else { Some(globs(keys, false)?) };
        Ok(Self { categories: categories.to_vec(), keys, exactly: None })
    }

    /// True when everything is selected.
    pub fn is_all(&self) -> bool {
        self.categories.is_empty() && self.keys.is_none() && self.exactly.is_none()
    }

    /// True when this file is.
    pub fn takes(&self, category: &str, key: &str) -> bool {
        (self.categories.is_empty() || self.categories.iter().any(|name| name == category))
            && self.keys.as_ref().is_none_or(|globs| globs.is_match(key))
            && self.exactly.as_ref().is_none_or(|keys| keys.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::CategoryRule;

    fn rules() -> Rules {
        let rule = |name: &str, globs: &[&str]| CategoryRule {
            name: name.into(),
            globs: globs.iter().map(ToString::to_string).collect(),
        };
        Rules::new(&FileRules {
            prefix: String::new(),
            exclude: vec!["tmp/**".into()],
            vaults: vec!["backup/".into()],
            categories: vec![rule("images", &["import/**", "*.jpg"]), rule("documents", &["documents/**", "*.pdf"])],
        })
        .expect("good rules")
    }

    #[test]
    fn the_first_rule_that_matches_names_the_category() {
        let rules = rules();
        assert_eq!(rules.category("import/x.pdf"), "images");
        assert_eq!(rules.category("documents/a/b.JPG"), "images");
        assert_eq!(rules.category("documents/a/b.docx"), "documents");
        assert_eq!(rules.category("a/b"), "other");
    }

    #[test]
    fn only_the_vaults_own_prefix_is_left_out() {
        let rules = rules();
        assert!(!rules.takes("backup/vault.json") && !rules.takes("tmp/x/y"));
        assert!(rules.takes("Backup/x") && rules.takes("backup2/x") && rules.takes("tmp"));
    }

    #[test]
    fn reserved_category_names_are_refused() {
        let rule = CategoryRule { name: "records".into(), globs: vec![] };
        assert!(Rules::new(&FileRules { categories: vec![rule], ..FileRules::default() }).is_err());
    }
}
