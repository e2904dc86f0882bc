//! Tests of the core from outside, one binary.

mod architecture;
mod conformance;
mod crash;
mod damage;
mod format;
mod round_trip;
mod scratch;
mod sqlite;
mod world;
