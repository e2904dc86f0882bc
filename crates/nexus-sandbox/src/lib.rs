//! An S3 service in this process, strict like Amazon S3, and clinic-sized data to fill it with.
//!
//! The demo runs on it and the tests lean on it, so it must never be more lenient than the real
//! thing: a request that Amazon S3 refuses is refused here, with the same code. It keeps everything
//! in memory and never touches a file or another machine.

mod access;
mod acl;
mod bucket;
mod checksum;
pub mod clinic;
mod condition;
mod exchange;
mod fault;
mod listing;
mod lock;
mod name;
mod object;
mod operation_name;
mod operations;
mod options;
mod percent;
mod personality;
mod refusal;
mod service;
mod store;
mod timestamps;
mod upload;
mod version;

pub use acl::{Acl, EVERYBODY, EVERYBODY_KNOWN, Grant, Grantee, Ownership};
pub use checksum::{Algorithm, Checksum, Span};
pub use fault::{Fault, FaultAt, Waiting};
pub use lock::{DefaultRetention, Lock, Period, Retention, RetentionMode};
pub use object::{Encryption, Fields, NewObject, STANDARD, StoredObject};
pub use options::{HeaderRefusal, MatchOfAbsent, Names, Quirks, ServiceOptions, Throttling};
pub use personality::Personality;
pub use service::Service;
pub use store::{NoSuchBucket, Store};
pub use version::{NULL_VERSION, Version, Versioning};
