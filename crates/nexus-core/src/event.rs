//! What happens while it happens: told to one callback, which decides what a person sees.

use std::sync::Arc;

/// One thing that happened, or one step of something long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stage of the work begins.
    Started {
        /// Which one.
        stage: Stage,
        /// How many objects or rows it will see, where that is known.
        items: Option<u64>,
        /// How many bytes it will move, where that is known.
        bytes: Option<u64>,
    },
    /// Some of a stage is done since the last such event.
    Advanced {
        /// Which stage.
        stage: Stage,
        /// Objects or rows done.
        items: u64,
        /// Bytes done.
        bytes: u64,
    },
    /// A stage is over.
    Ended {
        /// Which one.
        stage: Stage,
    },
    /// Something the user should know that does not stop the work.
    Warning(String),
    /// Something worth a line in a log.
    Note(String),
}

/// The stages of the verbs, in the words the user reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The database is copied to a private file.
    CopyDatabase,
    /// The database's copy is checked.
    CheckDatabase,
    /// The database's copy goes into the vault.
    UploadDatabase,
    /// Rows are written as JSON.
    ExportRecords,
    /// Record files go into the vault.
    UploadRecords,
    /// The source's files are listed.
    ListFiles,
    /// Files are copied.
    CopyFiles,
    /// Copies are compared with their source.
    CompareFiles,
    /// A point is verified.
    Verify,
    /// Files are put back.
    RestoreFiles,
    /// The database is put back.
    RestoreDatabase,
    /// Record files are put back.
    RestoreRecords,
    /// Records are loaded into tables.
    LoadRecords,
    /// The database's copy is fetched.
    FetchDatabase,
    /// Record files are read and parsed.
    ReadRecords,
    /// Files are read from where their copies lie.
    ReadFiles,
    /// What nothing names any more is removed.
    Remove,
    /// Rows are held against the files they name.
    CheckReferences,
}

impl Stage {
    /// The stage in a person's words.
    pub fn title(self) -> &'static str {
        match self {
            Self::CopyDatabase => "copying the database",
            Self::CheckDatabase => "checking the database",
            Self::UploadDatabase => "storing the database",
            Self::ExportRecords => "exporting records",
            Self::UploadRecords => "storing records",
            Self::ListFiles => "listing files",
            Self::CopyFiles => "copying files",
            Self::CompareFiles => "comparing copies",
            Self::Verify => "verifying",
            Self::RestoreFiles => "restoring files",
            Self::RestoreDatabase => "restoring the database",
            Self::RestoreRecords => "restoring records",
            Self::LoadRecords => "loading records",
            Self::FetchDatabase => "fetching the database",
            Self::ReadRecords => "reading records",
            Self::ReadFiles => "reading files",
            Self::Remove => "removing",
            Self::CheckReferences => "checking references",
        }
    }
}

/// The one callback, given to the rooms where bytes move.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Wraps a callback; it must be quick, since work waits for it.
    pub fn new(callback: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    /// Tells nobody.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells one event.
    pub fn tell(&self, event: Event) {
        (self.0)(event);
    }

    /// Tells that a stage begins.
    pub fn started(&self, stage: Stage, items: Option<u64>, bytes: Option<u64>) {
        self.tell(Event::Started { stage, items, bytes });
    }

    /// Tells that some of a stage is done.
    pub fn advanced(&self, stage: Stage, items: u64, bytes: u64) {
        self.tell(Event::Advanced { stage, items, bytes });
    }

    /// Tells that a stage is over.
    pub fn ended(&self, stage: Stage) {
        self.tell(Event::Ended { stage });
    }

    /// Tells a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.tell(Event::Warning(text.into()));
    }

    /// Tells a note.
    pub fn note(&self, text: impl Into<String>) {
        self.tell(Event::Note(text.into()));
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

const UNITS: [&str; 7] = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Bytes in decimal units with two or three digits: `1.4 MB`.
pub fn size(bytes: u64) -> String {
    if bytes < 1_000 {
        return format!("{bytes} bytes");
    }
    // A tenth is all that is shown, so the lost low bits of a large number do not matter.
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    if value < 99.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}
