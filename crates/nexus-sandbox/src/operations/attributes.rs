//! `GetObjectAttributes`: size, checksum and parts without the object.

use s3s::dto::{
    Checksum, ETag, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, ObjectAttributes,
    StorageClass,
};
use s3s::{S3Request, S3Result};

use super::{Operations, signed};
use crate::checksum::write_object_checksum;

impl Operations {
    pub(super) async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<GetObjectAttributesOutput> {
        let input = request.input;
        let found = self.store.found(&input.bucket, &input.key, input.version_id.as_deref())?;
        let object = found.object;
        let wants = |name: &str| {
            let mut asked = input.object_attributes.iter();
            asked.any(|attribute| attribute.as_str() == name)
        };
        let mut checksum = Checksum::default();
        write_object_checksum!(checksum, &object.checksum);
        let silent = self.options.quirks.no_checksum_in_attributes;
        let parts = i32::try_from(object.parts.len()).unwrap_or(i32::MAX);
        Ok(GetObjectAttributesOutput {
            e_tag: wants(ObjectAttributes::ETAG).then(|| ETag::Strong(object.etag.clone())),
            object_size: wants(ObjectAttributes::OBJECT_SIZE).then(|| signed(object.size())),
            storage_class: wants(ObjectAttributes::STORAGE_CLASS)
                .then(|| StorageClass::from(object.storage_class.clone())),
            checksum: (wants(ObjectAttributes::CHECKSUM) && object.checksum.is_some() && !silent).then_some(checksum),
            object_parts: (wants(ObjectAttributes::OBJECT_PARTS) && parts > 0).then(|| GetObjectAttributesParts {
                total_parts_count: Some(parts),
                ..GetObjectAttributesParts::default()
            }),
            last_modified: Some(object.last_modified.into()),
            version_id: found.version_id,
            ..GetObjectAttributesOutput::default()
        })
    }
}
