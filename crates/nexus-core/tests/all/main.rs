//! Tests of the core from outside, one binary.

mod sqlite;
