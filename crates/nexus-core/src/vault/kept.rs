//! Whether the parts of a point are there and stay: what expired is gone, what was announced is about to go.

use super::journal::Entries;
use super::{RecoveryPoint, Standing};
use crate::error::{Error, Result};
use crate::point::{Label, Part};

impl RecoveryPoint {
    /// The parts that have not expired.
    pub fn kept(&self) -> Vec<Part> {
        let expired = self.journal.expired();
        self.manifest.present().into_iter().filter(|part| !expired.contains(part)).collect()
    }

    /// Fails when one of these parts expired or is announced to go, as far as was known when the point was looked up.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], which names what is left and the newest point that has all of it.
    pub async fn require_kept(&self, parts: &[Part]) -> Result<()> {
        self.require(parts, &self.journal).await
    }

    /// The same, read again: for whoever has just said in the journal that the point is needed.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when the point is gone by now; else as [`RecoveryPoint::require_kept`].
    pub async fn require_still_kept(&self, parts: &[Part]) -> Result<()> {
        match self.vault.state(self.id().clone()).await? {
            Some(state) if matches!(state.standing, Standing::Committed(_)) => {
                self.require(parts, &state.journal).await
            }
            _ => Err(Error::missing(format!("{} was removed by a prune this moment", self.id()))),
        }
    }

    async fn require(&self, parts: &[Part], entries: &Entries) -> Result<()> {
        let (going, expired) = (entries.going(), entries.expired());
        let Some(part) = parts.iter().find(|part| going.contains(part)) else { return Ok(()) };
        let what = if expired.contains(part) {
            let when = entries.expirations().find(|(_, parts)| parts.contains(part)).map(|(at, _)| at);
            let when = when.map(|at| format!(" on {}", at.strftime("%Y-%m-%d"))).unwrap_or_default();
            format!("the {part} of {} expired{when}", self.id())
        } else {
            format!("the {part} of {} are announced to be pruned", self.id())
        };
        let left: Vec<&str> =
            self.manifest.present().into_iter().filter(|part| !going.contains(part)).map(Part::name).collect();
        let left = match left.as_slice() {
            [] => None,
            names => Some(format!("what is left of it is chosen with --only {}", names.join(","))),
        };
        let whole = Box::pin(self.newest_whole(parts)).await.map(|id| format!("the newest point that has all is {id}"));
        let hint = [left, whole].into_iter().flatten().collect::<Vec<_>>().join("; ");
        Err(Error::Usage { what, hint: (!hint.is_empty()).then_some(hint) })
    }

    /// The newest proven point with these parts, of the same label where there is one.
    async fn newest_whole(&self, parts: &[Part]) -> Option<String> {
        let latest = |label: &Label| format!("latest:{label}");
        for selector in [latest(self.id().label()), "latest".to_owned()] {
            if let Ok(found) = self.vault.find(&selector, parts).await {
                return Some(found.point.id().to_string());
            }
        }
        None
    }
}
