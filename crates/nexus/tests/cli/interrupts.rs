use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::Place;

#[test]
fn a_signal_ends_the_run_with_130() {
    // A service that takes requests and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let mut place = Place::new();
    place.set("AWS_ACCESS_KEY_ID", "a");
    place.set("AWS_SECRET_ACCESS_KEY", "b");
    for signal in [Signal::TERM, Signal::INT] {
        let child = place
            .command(&["list", "--vault", "s3://bucket/vault", "--endpoint", &endpoint])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        // It listens for signals before it connects.
        let connection = silent.accept().expect("a connection");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid above zero");
        kill_process(pid, signal).expect("it is ours");
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(130));
        assert!(String::from_utf8_lossy(&ended.stderr).contains("interrupted"));
        drop(connection);
    }
    assert_eq!(std::fs::read_dir(place.path()).expect("the folder").count(), 0, "scratch was left behind");
}
