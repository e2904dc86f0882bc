//! The services and programs that `./test` started or installed, found by its variables.
//!
//! A test that needs one and runs without it fails: a skipped test is a claim nobody checked.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

/// An S3 service and an account on it that may do everything.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub url: String,
    pub access_key: String,
    pub secret_key: String,
}

/// The `SeaweedFS` of this run: lists folder by folder, which is not byte order, and checks credentials.
pub fn seaweedfs() -> Endpoint {
    endpoint("NEXUS_TEST_SEAWEEDFS")
}

/// The `MiniStack` of this run: lists in byte order, takes any key, and takes any credentials.
pub fn ministack() -> Endpoint {
    endpoint("NEXUS_TEST_MINISTACK")
}

/// The Python that has Django.
pub fn python() -> PathBuf {
    PathBuf::from(variable("NEXUS_TEST_PYTHON"))
}

/// The AWS command line.
pub fn aws() -> PathBuf {
    PathBuf::from(variable("NEXUS_TEST_AWS"))
}

/// A bucket name that no other test of any run uses: `<prefix>-<16 hexadecimal digits>`.
pub fn unique_bucket(prefix: &str) -> String {
    format!("{prefix}-{:016x}", RandomState::new().hash_one(std::process::id()))
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        url: variable(name),
        access_key: variable(&format!("{name}_ACCESS_KEY")),
        secret_key: variable(&format!("{name}_SECRET_KEY")),
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through ./test"))
}
