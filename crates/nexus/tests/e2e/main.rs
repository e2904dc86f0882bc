//! The whole tool as its users have it: the built binary, real S3 services, real applications, stock tools.
//!
//! Run through `./test`, which starts the services.

mod access;
mod adopt;
mod adopt_postgres;
mod app;
mod bad_input;
mod between;
mod changing;
mod copy;
mod diff;
mod disasters;
mod doctor;
mod doctor_probe;
mod drill;
mod drill_postgres;
mod estimate;
mod goes_on;
mod guard;
mod guard_signals;
mod holder;
mod hooks;
mod inventory;
mod keys;
mod kills;
mod lookup;
mod postgres;
mod postgres_backup;
mod postgres_restore;
mod properties;
mod prune;
mod record;
mod records;
mod references;
mod rehearse;
mod runbook;
mod scheduling;
mod secrets;
mod seen;
mod services;
mod site;
mod staging;
mod stock_tools;
mod tables;
mod versions;
