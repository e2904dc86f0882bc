//! Every fault does what it says, once or as often as it says.

use std::time::Duration;

use nexus_sandbox::{Fault, FaultAt};

use crate::rig::{BUCKET, Rig, refusal, strict};

async fn put(rig: &Rig) -> Result<String, String> {
    let put = rig.client.put_object().bucket(BUCKET).key("k").body(b"hello".to_vec().into());
    match put.send().await {
        Ok(output) => Ok(output.e_tag().unwrap_or_default().to_owned()),
        Err(error) if error.raw_response().is_some() => Err(refusal::<(), _>(Err(error))),
        Err(_) => Err("no answer".to_owned()),
    }
}

async fn struck(fault: Fault) -> (Result<String, String>, bool) {
    let rig = strict();
    rig.service.inject(fault, FaultAt::Nth(1));
    let outcome = put(&rig).await;
    assert_eq!(rig.service.faults_fired(), 1);
    let carried_out = rig.service.store().get(BUCKET, "k").is_some();
    put(&rig).await.expect("only the first is struck");
    assert_eq!(rig.service.requests(), 2);
    (outcome, carried_out)
}

fn refused(code: &str) -> Result<String, String> {
    Err(code.to_owned())
}

#[tokio::test]
async fn statuses_refuse_without_doing() {
    assert_eq!(struck(Fault::Status500).await, (refused("InternalError"), false));
    assert_eq!(struck(Fault::Status503SlowDown).await, (refused("SlowDown"), false));
}

#[tokio::test]
async fn an_empty_200_has_no_etag_and_does_nothing() {
    assert_eq!(struck(Fault::Empty200).await, (Ok(String::new()), false));
}

#[tokio::test]
async fn a_reset_does_nothing_and_a_lost_answer_does_it() {
    assert_eq!(struck(Fault::Reset).await, (refused("no answer"), false));
    assert_eq!(struck(Fault::LostAnswer).await, (refused("no answer"), true));
}

#[tokio::test]
async fn an_error_comes_inside_a_200_of_a_copy() {
    let rig = strict();
    rig.service.store().put(BUCKET, "k", "x").expect("the bucket");
    let name = "CopyObject".to_owned();
    rig.service.inject(Fault::ErrorInside200, FaultAt::Operation { name, nth: 1 });
    put(&rig).await.expect("another operation");
    let copy = || rig.client.copy_object().bucket(BUCKET).key("l").copy_source("clinic/k").send();
    let error = copy().await.expect_err("an error");
    assert_eq!(error.raw_response().map(|answer| answer.status().as_u16()), Some(200));
    assert_eq!(refusal::<(), _>(Err(error)), "InternalError");
    assert!(rig.service.store().get(BUCKET, "l").is_none());
    copy().await.expect("only once");
}

#[tokio::test]
async fn a_cut_body_breaks_off_half_way() {
    let rig = strict();
    rig.service.store().put(BUCKET, "k", "0123456789").expect("the bucket");
    rig.service.inject(Fault::CutBody, FaultAt::Nth(1));
    let got = rig.client.get_object().bucket(BUCKET).key("k").send().await.expect("a head");
    assert_eq!(got.content_length(), Some(10));
    let mut body = got.body;
    let half = body.next().await.expect("a half").expect("a half");
    assert_eq!(half, "01234");
    body.next().await.expect("an end").expect_err("an error");
}

#[tokio::test]
async fn stalls_never_answer() {
    for (fault, done) in [(Fault::Stall, false), (Fault::StallAfter, true)] {
        let rig = strict();
        rig.service.inject(fault, FaultAt::From(1));
        let waited = tokio::time::timeout(Duration::from_millis(300), put(&rig)).await;
        assert!(waited.is_err());
        assert_eq!(rig.service.store().get(BUCKET, "k").is_some(), done);
        rig.service.clear_faults();
        put(&rig).await.expect("an answer");
    }
}

#[tokio::test]
async fn requests_are_counted_and_logged_by_operation() {
    let rig = strict();
    put(&rig).await.expect("a put");
    rig.client.get_object().bucket(BUCKET).key("k").send().await.expect("a get");
    rig.client.list_objects_v2().bucket(BUCKET).send().await.expect("a list");
    let operations = rig.service.operations();
    let names: Vec<_> = operations.keys().map(String::as_str).collect();
    assert_eq!(names, ["GetObject", "ListObjectsV2", "PutObject"]);
    assert_eq!(rig.service.log()[0], "PUT /clinic/k?x-id=PutObject");
    rig.service.reset_counts();
    assert_eq!(rig.service.requests(), 0);
}

#[test]
fn a_stopped_service_is_gone() {
    let rig = strict();
    let address = rig.service.endpoint().trim_start_matches("http://").to_owned();
    rig.service.stop();
    std::net::TcpStream::connect(address).expect_err("nobody");
}

#[tokio::test]
async fn a_request_that_is_stopped_is_carried_out_when_it_may_go_on() {
    let rig = strict();
    let mut waiting = rig.service.stop_at(FaultAt::Nth(1));
    let store = rig.service.store();
    let others = async {
        waiting.arrived().await;
        assert!(store.get(BUCKET, "k").is_none(), "it was carried out before it might");
        assert!(rig.client.put_object().bucket(BUCKET).key("other").body(b"x".to_vec().into()).send().await.is_ok());
        drop(waiting);
    };
    let (first, ()) = tokio::join!(put(&rig), others);
    assert!(first.is_ok() && store.get(BUCKET, "k").is_some());
}
