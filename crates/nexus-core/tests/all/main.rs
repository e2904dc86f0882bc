//! Tests of the core from outside, one binary.

mod architecture;
mod conformance;
mod crash;
mod damage;
mod drill;
mod format;
mod round_trip;
mod scratch;
mod sqlite;
mod world;
