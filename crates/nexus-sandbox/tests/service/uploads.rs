//! Multipart uploads.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, StorageClass};
use nexus_sandbox::ServiceOptions;

use crate::rig::{BUCKET, Rig, refusal, strict, with};

/// An upload of parts with these bodies, ready to be completed.
async fn uploaded(rig: &Rig, key: &str, bodies: &[&[u8]]) -> (String, CompletedMultipartUpload) {
    let created = rig
        .client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .content_type("application/pdf")
        .metadata("a", "b")
        .storage_class(StorageClass::StandardIa)
        .send()
        .await
        .expect("an upload");
    let id = created.upload_id().expect("an id").to_owned();
    let mut list = CompletedMultipartUpload::builder();
    for (number, body) in (1..).zip(bodies) {
        let part = rig.client.upload_part().bucket(BUCKET).key(key).upload_id(&id);
        let sent = part.part_number(number).body(body.to_vec().into()).send().await;
        let sent = sent.expect("a part");
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag().map(str::to_owned))
            .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned));
        list = list.parts(part.build());
    }
    (id, list.build())
}

fn tiny_parts() -> Rig {
    with(ServiceOptions { smallest_part: 1, ..ServiceOptions::default() })
}

#[tokio::test]
async fn parts_become_one_object_with_the_fields_of_its_creation() {
    let rig = tiny_parts();
    let (id, list) = uploaded(&rig, "new\nline", &[b"one", b"two"]).await;
    let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("new\nline");
    let done = complete.upload_id(id).multipart_upload(list).send().await.expect("a completion");
    let kept = rig.service.store().get(BUCKET, "new\nline").expect("it");
    assert_eq!(kept.body, "onetwo");
    assert!(kept.etag.ends_with("-2"));
    assert_eq!(done.e_tag(), Some(format!("\"{}\"", kept.etag).as_str()));
    assert_eq!(kept.fields.content_type.as_deref(), Some("application/pdf"));
    assert_eq!(kept.storage_class, "STANDARD_IA");
    assert_eq!(rig.service.store().open_uploads(BUCKET), 0);
}

#[tokio::test]
async fn a_conditional_completion_leaves_what_is_there() {
    let rig = tiny_parts();
    let (id, list) = uploaded(&rig, "k", &[b"one"]).await;
    rig.service.store().put(BUCKET, "k", "older").expect("the bucket");
    let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(id);
    let refused = complete.if_none_match("*").multipart_upload(list).send().await;
    assert_eq!(refusal(refused), "PreconditionFailed");
    assert_eq!(rig.service.store().get(BUCKET, "k").expect("it").body, "older");
    assert_eq!(rig.service.store().open_uploads(BUCKET), 1);
}

#[tokio::test]
async fn small_parts_wrong_parts_and_wrong_orders_are_refused() {
    let rig = strict();
    let (id, list) = uploaded(&rig, "k", &[b"one", b"two"]).await;
    let complete = |list: CompletedMultipartUpload| {
        let request = rig.client.complete_multipart_upload().bucket(BUCKET).key("k");
        request.upload_id(&id).multipart_upload(list).send()
    };
    assert_eq!(refusal(complete(list.clone()).await), "EntityTooSmall");
    let parts = list.parts();
    let reversed: Vec<_> = parts.iter().rev().cloned().collect();
    let reversed = CompletedMultipartUpload::builder().set_parts(Some(reversed)).build();
    assert_eq!(refusal(complete(reversed).await), "InvalidPartOrder");
    let wrong = CompletedPart::builder().part_number(1).e_tag("abc").build();
    let wrong = CompletedMultipartUpload::builder().parts(wrong).build();
    assert_eq!(refusal(complete(wrong).await), "InvalidPart");
    let single = CompletedMultipartUpload::builder().parts(parts[1].clone()).build();
    complete(single).await.expect("a single small part");
}

#[tokio::test]
async fn aborted_uploads_are_gone_and_open_ones_are_listed() {
    let rig = strict();
    let (id, _) = uploaded(&rig, "a", &[b"one"]).await;
    let (other, _) = uploaded(&rig, "b", &[]).await;
    let open = rig.client.list_multipart_uploads().bucket(BUCKET).send().await.expect("a list");
    let ids: Vec<_> = open.uploads().iter().filter_map(|upload| upload.upload_id()).collect();
    assert_eq!(ids, [id.as_str(), other.as_str()]);
    let sent = rig.client.list_parts().bucket(BUCKET).key("a").upload_id(&id).send().await;
    assert_eq!(sent.expect("parts").parts()[0].size(), Some(3));
    let abort = || rig.client.abort_multipart_upload().bucket(BUCKET).key("a").upload_id(&id).send();
    abort().await.expect("an abort");
    assert_eq!(refusal(abort().await), "NoSuchUpload");
    assert_eq!(rig.service.store().open_uploads(BUCKET), 1);
}

#[tokio::test]
async fn parts_can_be_ranges_of_another_object() {
    let rig = tiny_parts();
    let source = rig.service.store().put(BUCKET, "source", "0123456789").expect("the bucket");
    let (id, _) = uploaded(&rig, "k", &[]).await;
    let copy = |number: i32, range: &str, etag: &str| {
        let part = rig.client.upload_part_copy().bucket(BUCKET).key("k").upload_id(&id);
        part.part_number(number).copy_source("clinic/source").copy_source_range(range).copy_source_if_match(etag).send()
    };
    assert_eq!(refusal(copy(1, "bytes=0-4", "abc").await), "PreconditionFailed");
    assert_eq!(refusal(copy(1, "bytes=5-10", &source.etag).await), "InvalidArgument");
    let mut list = CompletedMultipartUpload::builder();
    for (number, range) in [(1, "bytes=5-9"), (2, "bytes=0-4")] {
        let part = copy(number, range, &source.etag).await.expect("a part");
        let result = part.copy_part_result().expect("a result");
        let etag = result.e_tag().map(str::to_owned);
        let crc = result.checksum_crc32().map(str::to_owned);
        let part = CompletedPart::builder().part_number(number).set_e_tag(etag);
        list = list.parts(part.set_checksum_crc32(crc).build());
    }
    let complete = rig.client.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(&id);
    complete.multipart_upload(list.build()).send().await.expect("a completion");
    assert_eq!(rig.service.store().get(BUCKET, "k").expect("it").body, "5678901234");
}
