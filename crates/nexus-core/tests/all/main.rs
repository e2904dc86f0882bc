//! Tests of the core from outside, one binary.

mod architecture;
mod changes;
mod conformance;
mod crash;
mod damage;
mod drill;
mod format;
mod invariants;
mod listing;
mod lookup;
mod pressure;
mod prune;
mod prune_model;
mod references;
mod rehearsals;
mod retention;
mod round_trip;
mod scratch;
mod sending;
mod services;
mod sqlite;
mod versions;
mod world;
