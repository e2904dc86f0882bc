//! The workshop of Nexus Backup: recovery points of an application, captured, verified, restored.
//!
//! No terminal, no arguments, no environment, no clock of its own. Modules in reading order:

// The nouns.
pub mod clock;
pub mod error;
pub mod event;
pub mod listing;
pub mod local;
pub mod point;
pub mod retention;

// Bytes outside, and the vault that lies there.
pub mod bucket;
pub mod vault;

// The systems of an app.
pub mod database;
pub mod files;
pub mod records;

// What rows say of files, and what changed between two states of both.
pub mod changes;
pub mod references;

// What is read of a point without restoring it.
pub mod lookup;

// The verbs.
pub mod adopt;
pub mod backup;
pub mod copy;
pub mod diff;
pub mod doctor;
pub mod drill;
pub mod pin;
pub mod prune;
pub mod rehearse;
pub mod restore;
pub mod verify;
