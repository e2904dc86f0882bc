//! The service as a client sees it: what it takes, what it refuses, and how it fails when told to.

mod acls;
mod checksums;
mod clinic;
mod conditions;
mod copies;
mod faults;
mod keys;
mod lifecycles;
mod listings;
mod locks;
mod personalities;
mod rig;
mod uploads;
mod version_listings;
mod versions;
