//! Small documents that are stored only where none is, also where a service overwrites what is there all the same.

use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use bytes::Bytes;

use super::blank::marked;
use super::failure::{Failure, FailureKind, failure};
use super::hashes::content_md5;
use super::learned::Conditions;
use super::s3::{S3, stored};
use super::{Bucket, StoreOptions, Writer};
use crate::error::{Error, Result};

/// How long it is waited before a document is looked at again where nothing holds two writers apart: whoever found nothing
/// there when we did has written by then, or took longer than [`WRITES_WITHIN`] and gives up.
const SETTLE: Duration = Duration::from_millis(500);
/// How long after its look a writer may have written there.
const WRITES_WITHIN: Duration = Duration::from_millis(400);

/// What a put under a condition came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    Stored,
    Refused,
}

impl Writer {
    /// True when a service that is to store an object only where none is overwrites one that is there.
    ///
    /// # Errors
    ///
    /// What the service fails with.
    pub async fn overwrites_regardless(&self, key: &str, bytes: Bytes, options: &StoreOptions) -> Result<bool> {
        self.allow(key)?;
        match self.reader().bucket() {
            Bucket::S3(s3) => match s3.put_new(key, &bytes, options).await {
                Ok(put) => {
                    let kept = if put == Put::Stored { Conditions::Ignored } else { Conditions::Kept };
                    s3.service.learned.has_conditions(kept);
                    Ok(put == Put::Stored)
                }
                Err(failure) => Err(failure.into_error(format!("cannot write s3://{}/{key}", s3.name()))),
            },
            Bucket::Folder(folder) => folder.create(key, &bytes),
        }
    }
}

impl S3 {
    pub(crate) async fn create(&self, key: &str, bytes: Bytes, options: &StoreOptions) -> Result<bool> {
        let what = |failure: Failure| {
            let refused = matches!(failure.kind, FailureKind::Unsupported | FailureKind::Fatal);
            let asked = options.encryption.as_deref().filter(|_| refused || failure.says("InternalError"));
            let asked = asked.map_or_else(String::new, |asked| {
                format!(", to be encrypted with {asked} (`encryption = \"none\"` under [vault] asks for none)")
            });
            failure.into_error(format!("cannot write s3://{}/{key}{asked}", self.name()))
        };
        let learned = &self.service.learned;
        // That of Amazon S3 is documented: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        let known = self.endpoint().is_none() || learned.conditions() == Conditions::Kept;
        let looked = Instant::now();
        if !known && let Some(there) = self.read(key).await? {
            return Ok(there == bytes);
        }
        if self.put_new(key, &bytes, options).await.map_err(what)? == Put::Refused {
            learned.has_conditions(Conditions::Kept);
            return Ok(self.read(key).await?.is_some_and(|there| there == bytes));
        }
        if !known && learned.conditions() == Conditions::Unknown {
            // The same once more: a service that holds to the condition refuses it. What came of it is seen by looking, below: it
            // may have been stored though no answer came, and a refusal for another reason says nothing about conditions.
            match self.put_new(key, &bytes, options).await {
                Ok(Put::Refused) => learned.has_conditions(Conditions::Kept),
                Ok(Put::Stored) => learned.has_conditions(Conditions::Ignored),
                Err(_) => {}
            }
        }
        if known || learned.conditions() == Conditions::Kept {
            return Ok(true);
        }
        if looked.elapsed() > WRITES_WITHIN {
            let what = format!(
                "cannot tell whether another run wrote s3://{}/{key} as well: the service holds no two writers apart and was slow",
                self.name()
            );
            return Err(Error::Busy { what });
        }
        tokio::time::sleep(SETTLE).await;
        Ok(self.read(key).await?.is_some_and(|there| there == bytes))
    }

    /// One put that is to store only where nothing is.
    async fn put_new(&self, key: &str, bytes: &Bytes, options: &StoreOptions) -> std::result::Result<Put, Failure> {
        let md5 = content_md5(bytes);
        let put = self
            .attempt(bytes.len() as u64, async || {
                let request = self.client().put_object().bucket(self.name()).key(marked(key)).if_none_match("*");
                let request = request
                    .body(ByteStream::from(bytes.clone()))
                    // A bucket that locks what is put into it asks for it
                    // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>).
                    .content_md5(&md5)
                    .set_content_type(options.headers.get("content-type").cloned())
                    .set_storage_class(options.class.as_deref().map(StorageClass::from))
                    .set_server_side_encryption(options.encryption.as_deref().map(ServerSideEncryption::from));
                let answer = request.send().await.map_err(failure)?;
                stored(answer.e_tag())
            })
            .await;
        match put {
            Ok(_) => Ok(Put::Stored),
            Err(failure) if failure.kind == FailureKind::Precondition => Ok(Put::Refused),
            Err(failure) => Err(failure),
        }
    }
}
