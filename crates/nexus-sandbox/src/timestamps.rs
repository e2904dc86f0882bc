//! Times between the standard library, the S3 types and HTTP.

use std::time::SystemTime;

use s3s::dto::{Timestamp, TimestampFormat};

/// The moment that an S3 type means; the year 1970 if it lies outside what the system can say.
pub(crate) fn instant(time: &Timestamp) -> SystemTime {
    let mut seconds = Vec::new();
    let moment = time
        .format(TimestampFormat::EpochSeconds, &mut seconds)
        .ok()
        .and_then(|()| String::from_utf8(seconds).ok())
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|seconds| *seconds >= 0.0)
        .and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    SystemTime::UNIX_EPOCH + moment.unwrap_or_default()
}

/// The moment as HTTP writes it, `Sat, 15 Nov 2025 06:42:33 GMT`.
pub(crate) fn http_date(moment: SystemTime) -> String {
    let mut text = Vec::new();
    // Writing to memory fails only for a year that HTTP cannot write; the header is then empty.
    let written = Timestamp::from(moment).format(TimestampFormat::HttpDate, &mut text);
    written.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
}
