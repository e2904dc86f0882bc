//! What the tests of the workspace stand on: services that `./test` started, a real site, digests, kills.
//!
//! Development only. It shares no code with the tool, so that what it measures is measured twice:
//! a mistake in the tool cannot hide in the yardstick. Everything here panics with a sentence instead
//! of returning an error, because a test has nobody to hand one to.

pub mod bucket;
pub mod digest;
pub mod django;
pub mod keys;
pub mod kill;
pub mod postgres;
pub mod services;
pub mod synthetic;
pub mod tree;
pub mod wal;
