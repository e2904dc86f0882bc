//! The app's files: which belong to a point, how they are captured, compared and put back.

pub(crate) mod base;
pub mod batch;
pub mod capture;
pub(crate) mod carry;
pub mod compare;
pub(crate) mod decide;
pub mod foresee;
pub(crate) mod left;
pub(crate) mod moment;
pub mod restore;
pub mod rules;
pub mod scratch;
pub(crate) mod versions;
mod work;
