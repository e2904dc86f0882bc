//! The services that `./test` started store what they are given, under the keys they were given.

use std::process::Command;
use std::time::Duration;

use nexus_testkit::bucket::{all_objects, client, delete_all, make_bucket, object, put_object};
use nexus_testkit::kill;
use nexus_testkit::services::{Endpoint, aws, ministack, seaweedfs, unique_bucket};

const KEYS: [&str; 8] = ["plain", "a", "a/b", "a!", "a b+c%2B%.txt", "ü/日本語 😀.pdf", "line\nbreak", "quote'\"&<>"];

#[tokio::test]
async fn seaweedfs_gives_back_what_was_put() {
    gives_back_what_was_put(&seaweedfs()).await;
}

#[tokio::test]
async fn ministack_gives_back_what_was_put() {
    gives_back_what_was_put(&ministack()).await;
}

async fn gives_back_what_was_put(endpoint: &Endpoint) {
    let client = client(endpoint);
    let bucket = unique_bucket("kit");
    make_bucket(&client, &bucket).await;
    let longest = "k".repeat(1024);
    let keys = KEYS.into_iter().chain([longest.as_str()]);
    for key in keys.clone() {
        put_object(&client, &bucket, key, key.as_bytes()).await;
    }
    let listed = all_objects(&client, &bucket).await;
    let mut wanted: Vec<&str> = keys.collect();
    wanted.sort_unstable();
    assert_eq!(listed.keys().collect::<Vec<_>>(), wanted);
    assert_eq!(listed["a"], (1, "0cc175b9c0f1b6a831c399e269772661".to_owned()));
    for key in wanted {
        assert_eq!(object(&client, &bucket, key).await, key.as_bytes());
    }
    delete_all(&client, &bucket).await;
    assert!(all_objects(&client, &bucket).await.is_empty());
}

#[tokio::test]
async fn the_aws_command_line_reads_what_the_client_wrote() {
    let endpoint = seaweedfs();
    let client = client(&endpoint);
    let bucket = unique_bucket("kit");
    make_bucket(&client, &bucket).await;
    put_object(&client, &bucket, "a b/ü.txt", b"hello").await;
    let mut command = Command::new(aws());
    command
        .args(["--endpoint-url", &endpoint.url, "s3", "cp", &format!("s3://{bucket}/a b/ü.txt"), "-"])
        .env("AWS_ACCESS_KEY_ID", &endpoint.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &endpoint.secret_key)
        .env("AWS_DEFAULT_REGION", "us-east-1");
    let output = kill::run(command, Duration::from_mins(1));
    assert_eq!(output.stdout, b"hello", "{}", String::from_utf8_lossy(&output.stderr));
}
