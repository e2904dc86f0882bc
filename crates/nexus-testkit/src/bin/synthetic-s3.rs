//! Serves a synthetic bucket until standard input closes: `synthetic-s3 OBJECTS [PORT]`; the first line it prints is its address.

use std::io::{Read as _, Write as _};

use nexus_testkit::synthetic::{Options, Synthetic};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let objects = arguments.next().and_then(|text| text.parse().ok()).expect("synthetic-s3 OBJECTS [PORT]");
    let port = arguments.next().map(|text| text.parse().expect("a port is a number"));
    let service = Synthetic::start(Options { objects, port, ..Options::default() });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", service.endpoint()).and_then(|()| out.flush()).expect("somebody reads the address");
    let mut buffer = [0; 64];
    while std::io::stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
}
