#!/usr/bin/env bash
# Brings the files of one recovery point back with stock tools: aws-cli 2 or 1, zstd, jq. No nexus needed.
#
#   restore-files.sh VAULT POINT TARGET        every file of the point
#   restore-files.sh VAULT POINT TARGET --list what would be copied, one line a file, and copies nothing
#
# VAULT   s3://bucket/prefix or a folder        POINT  reimport_20251115_064233
# TARGET  s3://bucket (keys as they were) or a folder
#
# The listing `files.jsonl.zst` says for every file where its copy lies: in this point or in an earlier one.
# Credentials, region and AWS_ENDPOINT_URL_S3 come from the environment, as always with aws-cli. JOBS sets how
# many copies run at once (default 8). Ends with "N of N files restored" and status 0 only if every copy was made.
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,12p' "$0"; exit 2; }
vault=${1%/} point=$2 target=${3%/} mode=${4:-}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

case $vault in
  s3://*) aws s3 cp --only-show-errors "$vault/$point/files.jsonl.zst" "$work/files.jsonl.zst" ;;
  *)      cp "$vault/$point/files.jsonl.zst" "$work/files.jsonl.zst" ;;
esac
zstd -q -d "$work/files.jsonl.zst" -o "$work/files.jsonl"
jq -c 'select((.kind // "file") == "file")' "$work/files.jsonl" > "$work/copies.jsonl"
total=$(wc -l < "$work/copies.jsonl")
if [ "$mode" = --list ]; then
  jq -r '[.key, .at.vault.key, .source.size] | @tsv' "$work/copies.jsonl"; exit 0
fi

# One JSON document a copy: nothing of a key passes through the shell as words.
strip() { local rest=${1#s3://}; echo "${rest%%/*}"; }
below() { local rest=${1#s3://}; case $rest in */*) echo "${rest#*/}/" ;; *) echo ;; esac; }
export work vault target
case "$vault|$target" in
  s3://*"|s3://"*)
    jq -c --arg from "$(strip "$vault")" --arg prefix "$(below "$vault")" \
          --arg to "$(strip "$target")" --arg below "$(below "$target")" \
      '{Bucket: $to, Key: ($below + .key), CopySource: ($from + "/" + ($prefix + .at.vault.key | @uri)),
        MetadataDirective: "COPY"} + (if .source.class then {StorageClass: .source.class} else {} end)
       | {big: false, input: .}' "$work/copies.jsonl" > "$work/requests.jsonl" ;;
  *) jq -c '{key: .key, copy: .at.vault.key, headers: (.headers // {}), class: .source.class}' \
       "$work/copies.jsonl" > "$work/requests.jsonl" ;;
esac

one() {
  local request=$1 key copy
  case "$vault|$target" in
    s3://*"|s3://"*)
      aws s3api copy-object --cli-input-json "$(jq -c .input <<<"$request")" > /dev/null ;;
    *)
      # `x` keeps newlines at the end of a key, which $(…) would drop.
      key=$(jq -rj .key <<<"$request"; echo x); key=${key%x}
      copy=$(jq -rj .copy <<<"$request"; echo x); copy=${copy%x}
      case "/$key/" in */../*) echo "refused: $key leaves the target" >&2; return 1 ;; esac
      case "$target" in s3://*) ;; *) mkdir -p -- "$target/$(dirname -- "$key")" ;; esac
      case "$vault|$target" in
        s3://*|*"|s3://"*) aws s3 cp --only-show-errors -- "$vault/$copy" "$target/$key" ;;
        *) cp -- "$vault/$copy" "$target/$key" ;;
      esac ;;
  esac && echo done >> "$work/done"
}
export -f one
: > "$work/done"
failed=0
tr '\n' '\0' < "$work/requests.jsonl" | xargs -0 -r -n 1 -P "${JOBS:-8}" bash -c 'one "$1"' one || failed=1
count=$(wc -l < "$work/done")
echo "$count of $total files restored"
[ "$failed" = 0 ] && [ "$count" = "$total" ]
