#!/usr/bin/env bash
# Brings the files of one recovery point back with stock tools: bash, jq, zstd and, for buckets, aws-cli 1 or 2.
#
#   restore-files.sh VAULT POINT TARGET         every file of the point
#   restore-files.sh VAULT POINT TARGET --list  one line a file: key, copy, bytes; copies nothing
#
# VAULT   s3://bucket/prefix or a folder        POINT  reimport_20251115_064233
# TARGET  s3://bucket (keys as they were), s3://bucket/prefix (keys below it), or a folder
#
# The listing `files.jsonl.zst` says for every file where its copy lies: in this point, in an earlier one, or as a version of
# the object itself in the bucket that the files came from, which must be reached with the same credentials then.
# Credentials, region and AWS_ENDPOINT_URL_S3 come from the environment, as always with aws-cli. JOBS is how many
# copies run at once (default 8); COPY_LIMIT the most bytes that one copy request takes (default 5 GiB, as on AWS):
# larger objects go by `aws s3 cp`, and their tags after them. What the point does not have stays as it is.
#
# The last line is "N of N files restored". Status: 0 all is there; 1 something is not, and was named; 2 not begun.

set -euo pipefail

stop() { printf '%s\n' "$1" >&2; exit 2; }
case $#:${4:-} in 3: | 4:--list) ;; *) stop "$(sed -n '2,/^$/s/^# \{0,1\}//p' "$0")" ;; esac
vault=${1%/} point=$2 target=${3%/} mode=${4:-}
case $point in '' | *[!a-z0-9_-]*) stop "not a point's id: $point" ;; esac
case $vault in s3://* | /*) ;; *) vault=$PWD/$vault ;; esac
case $target in s3://* | /*) ;; *) target=$PWD/$target ;; esac
for program in jq zstd; do command -v "$program" > /dev/null || stop "$program is not installed"; done
case $vault$target in *s3://*) command -v aws > /dev/null || stop "aws is not installed" ;; esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $vault in
  s3://*) aws s3 cp --only-show-errors "$vault/$point/files.jsonl.zst" "$work/listing.zst" ;;
  *) cp -- "$vault/$point/files.jsonl.zst" "$work/listing.zst" ;;
esac || stop "cannot read the listing of $point in $vault"
zstd -q -d "$work/listing.zst" -o "$work/listing" || stop "the listing of $point is damaged"
jq -c 'select((.kind // "file") == "file")' "$work/listing" > "$work/files" || stop "the listing of $point is damaged"
if [ "$mode" = --list ]; then
  jq -r '[.key, (.at.vault.key // ((.key // "") + "?versionId=" + (.at.version.id // ""))), .source.size] | @tsv' "$work/files"
  exit
fi

source=
if [ -n "$(jq -r 'select(.at.version) | 1' "$work/files" | head -n 1)" ]; then
  case $vault in
    s3://*) aws s3 cp --only-show-errors "$vault/$point/manifest.json" "$work/manifest" ;;
    *) cp -- "$vault/$point/manifest.json" "$work/manifest" ;;
  esac || stop "cannot read the manifest of $point in $vault"
  source=$(jq -er .parts.files.source "$work/manifest") || stop "the manifest of $point is damaged"
  case $source in s3://?*) ;; *) stop "the manifest of $point names no bucket that its files are versions in" ;; esac
  command -v aws > /dev/null || stop "aws is not installed"
fi

# The functions below work on `entry`, one line of the listing. A key is only ever part of a JSON document or of one
# quoted word, so no character in it means anything to the shell. `x` at the end saves newlines there from $(…).
place() { local rest=${1#s3://}; printf %s "${rest%%/*}"; }
below() { local rest=${1#s3://}; case $rest in */?*) printf %s "${rest#*/}/" ;; esac; }
refuse() { printf 'not restored: %q: %s\n' "$key" "$1" >&2; return 1; }

# Prints what a jq program makes of the entry; the program knows where the copy lies and where the file goes.
made() {
  jq -j --arg vault "$(place "$vault")" --arg below "$(below "$vault")" --arg source "$(place "$source")" \
    --arg to "$(place "$target")" --arg to_below "$(below "$target")" \
    '(if .at.version then [$source, .key] else [$vault, $below + (.at.vault.key // "")] end) as [$from, $copy]
    | (.at.version.id // "") as $version | ($to_below + .key) as $new | '"$1" <<< "$entry"
}

is_version() { [ -n "$(made '$version')" ]; }

# Whether one request can copy it. A key that looks as if it named a version would be misread by aws-cli.
is_simple() {
  [ "$(made .source.size)" -le "${COPY_LIMIT:-5368709120}" ] &&
    [ "$(made '.key | test("[?]versionId=[^[:space:]]")')" = false ]
}

# Copies in parts, which carry nothing by themselves: the properties are given, as S3 names them, and sent along.
in_parts() {
  local from=$1 to properties=$2 flag
  if jq -e '[.. | strings] | any(test("^(fileb?|https?)://"))' <<< "$properties" > /dev/null; then
    refuse "aws-cli takes a property of it for a file's name"
    return
  fi
  to=$(made '"s3://" + $to + "/" + $new, "x"')
  set --
  while IFS= read -r flag; do set -- "$@" "$flag"; done < <(jq -r '
    {ContentType: "--content-type", CacheControl: "--cache-control", ContentDisposition: "--content-disposition",
     ContentEncoding: "--content-encoding", ContentLanguage: "--content-language", Expires: "--expires",
     StorageClass: "--storage-class"}
    as $flags | (to_entries[] | select($flags[.key]) | $flags[.key] + "=" + .value),
      (select(.Metadata // {} | length > 0) | "--metadata=" + (.Metadata | tojson))' <<< "$properties")
  case $from in s3://*) set -- --metadata-directive REPLACE "$@" ;; esac
  aws s3 cp --only-show-errors "$@" "$from" "${to%x}"
}

# Tags, which neither a copy in parts nor a put of an empty object carries: read where they lie, and set on the new object.
tags_of() {
  local has words=$work/tags.$BASHPID
  if has=$(aws s3api get-object-tagging --output json --cli-input-json "$(made '{Bucket: $from, Key: $copy}
    + (if $version == "" then {} else {VersionId: $version} end)')" 2> "$words"); then
    jq -c '{TagSet}' <<< "$has"
  elif grep -q 'NotImplemented\|MethodNotAllowed\|UnsupportedOperation' "$words"; then
    echo '{"TagSet": []}'
  else
    cat "$words" >&2
    return 1
  fi
}

# The same of a folder vault's listing, which has them as a header says them: `a=b&c=d`, percent-encoded.
tags_in() {
  local pairs pair
  IFS='&' read -r -a pairs <<< "$1"
  for pair in ${pairs[@]+"${pairs[@]}"}; do
    jq -n --arg key "$(decoded "${pair%%=*}")" --arg value "$(decoded "${pair#*=}")" '{Key: $key, Value: $value}'
  done | jq -c -s '{TagSet: .}'
}
decoded() { local text=${1//+/ }; printf %b "${text//%/\\x}"; }

set_tags() {
  [ "$(jq '.TagSet | length' <<< "$1")" = 0 ] ||
    aws s3api put-object-tagging --cli-input-json "$(made '{Bucket: $to, Key: $new}' |
      jq -c --argjson tags "$1" '. + {Tagging: $tags}')" > /dev/null
}

# What the service says of what is copied.
head_of() {
  aws s3api head-object --output json --cli-input-json "$(made '{Bucket: $from, Key: $copy}
    + (if $version == "" then {} else {VersionId: $version} end)')"
}

# Some services list a `dir/` marker and do not copy it: an object without content can be written anew.
empty() {
  local has tags
  grep -q NoSuchKey "$work/words.$BASHPID" && has=$(head_of) && tags=$(tags_of) &&
    [ "$(jq .ContentLength <<< "$has")" = 0 ] && [ "$(made .source.size)" = 0 ] || return
  aws s3api put-object --cli-input-json "$(made '{Bucket: $to, Key: $new}
    + (if .source.class then {StorageClass: .source.class} else {} end)' | jq -c --argjson has "$has" '
    . + ($has | {ContentType, CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, Expires, Metadata}
      | with_entries(select(.value)))')" > /dev/null && set_tags "$tags"
}

# Reads one version of an object into a file. aws-cli takes no JSON for that, and reads a file in place of such keys.
fetch_version() {
  case $key in file://* | fileb://* | http://* | https://*) refuse "aws-cli takes its key for a file's name"; return ;; esac
  aws s3api get-object --bucket="$(made '$from')" --key="$key" --version-id="$(made '$version')" "$1" > /dev/null
}

# aws-cli percent-encodes the source itself.
bucket_to_bucket() {
  local from properties tags
  if is_simple; then
    aws s3api copy-object --cli-input-json "$(made '
      {Bucket: $to, Key: $new, MetadataDirective: "COPY",
       CopySource: ($from + "/" + $copy + (if $version == "" then "" else "?versionId=" + $version end))}
      + (if .source.class then {StorageClass: .source.class} else {} end)')" > /dev/null 2> "$work/words.$BASHPID" ||
      empty || { cat "$work/words.$BASHPID" >&2; return 1; }
  elif is_version; then
    # Without its properties it would be another object.
    properties=$(head_of) && tags=$(tags_of) && from=$(mktemp "$work/version.XXXXXX") || return
    if fetch_version "$from"; then in_parts "$from" "$properties" && set_tags "$tags"; else false; fi
    set -- "$?"
    rm -f -- "$from"
    return "$1"
  else
    properties=$(head_of) && tags=$(tags_of) || return
    from=$(made '"s3://" + $from + "/" + $copy, "x"')
    in_parts "${from%x}" "$properties" && set_tags "$tags"
  fi
}

# What a folder vault cannot hold beside the bytes, the headers, is in the listing.
folder_to_bucket() {
  local copy properties
  copy=$(made '.at.vault.key, "x"') copy=$vault/${copy%x}
  properties=$(made '(.headers // {}) as $headers
    | {ContentType: $headers["content-type"], CacheControl: $headers["cache-control"],
       ContentDisposition: $headers["content-disposition"], ContentEncoding: $headers["content-encoding"],
       ContentLanguage: $headers["content-language"], Expires: $headers["expires"], Tagging: $headers["x-amz-tagging"],
       StorageClass: .source.class}
    | with_entries(select(.value)) + {Metadata: ($headers | with_entries(select(.key | startswith("x-amz-meta-"))
        | .key |= .[11:]))}')
  if is_simple; then
    aws s3api put-object --body "$copy" \
      --cli-input-json "$(jq -c --argjson where "$(made '{Bucket: $to, Key: $new}')" '. + $where' <<< "$properties")" \
      > /dev/null
  else
    in_parts "$copy" "$properties" && set_tags "$(tags_in "$(jq -r '.Tagging // ""' <<< "$properties")")"
  fi
}

# Makes the folders of a path below the target one by one: a link on the way would lead out of it.
enter() {
  local rest=$1 at=$target
  while [ -n "$rest" ]; do
    at=$at/${rest%%/*}
    case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
    if [ -L "$at" ]; then refuse "a link is in its way"; return; fi
    mkdir -- "$at" 2> /dev/null || [ -d "$at" ] || { refuse "its folder cannot be made"; return; }
  done
}

# Checks that a key is a path that stays below the target, and makes the folder it lies in.
settle() {
  case /$key/ in */../* | */./* | *//?*) refuse "no path in a folder"; return ;; esac
  if [ "$(made '.key | explode | any(. == 0)')" = true ]; then refuse "no path in a folder"; return; fi
  case $key in */*) enter "${key%/*}" ;; esac
}

# Beside its place first, then renamed: what is there is whole or untouched, and a link is replaced, not followed.
to_folder() {
  local path=$target/$key beside copy mode
  settle || return
  case $key in */) [ "$(made .source.size)" = 0 ] || refuse "it has bytes and the name of a folder"; return ;; esac
  if [ -d "$path" ] && [ ! -L "$path" ]; then refuse "a folder is in its place"; return; fi
  beside=$(mktemp "${path%/*}/.restore-XXXXXX") || return
  case $(made '$version | if . == "" then "" else "version" end'):$vault in
    version:*) fetch_version "$beside" ;;
    :s3://*) copy=$(made '"s3://" + $from + "/" + $copy, "x"') && aws s3 cp --only-show-errors "${copy%x}" "$beside" ;;
    *) copy=$(made '.at.vault.key, "x"') && cat -- "$vault/${copy%x}" > "$beside" ;;
  esac &&
    mode=$(made '.source.unix.mode // 384') && chmod "$(printf %o "$mode")" "$beside" &&
    { [ ! -L "$path" ] || rm -f -- "$path"; } && mv -f -- "$beside" "$path" && return
  rm -f -- "$beside"
  return 1
}

restore() {
  local entry=$1 key
  key=$(made '.key, "x"') key=${key%x}
  if [ -z "$(made '.at.vault.key // $version')" ]; then refuse "nothing says where its copy lies"; return; fi
  case $target in
    s3://*) if is_version; then bucket_to_bucket; else case $vault in s3://*) bucket_to_bucket ;; *) folder_to_bucket ;; esac; fi ;;
    *) to_folder ;;
  esac || { refuse "it failed"; return; }
  echo done >> "$work/done"
}

# Folders and links of a folder source; links last of all, so that nothing was written through one.
restore_kind() {
  local entry key to failed=0
  while IFS= read -r entry; do
    key=$(made '.key, "x"') key=${key%x}
    settle || { failed=1; continue; }
    case $key in */) continue ;; esac
    to=$(made '.kind.link, "x"')
    if [ -L "$target/$key" ]; then rm -f -- "$target/$key"; fi
    if [ -e "$target/$key" ]; then refuse "something is in its place"; failed=1; continue; fi
    ln -s -- "${to%x}" "$target/$key" || failed=1
  done
  return "$failed"
}

export -f place below refuse made is_version fetch_version head_of is_simple in_parts empty
export -f tags_of tags_in decoded set_tags bucket_to_bucket folder_to_bucket enter settle to_folder restore
case $target in s3://*) ;; *) mkdir -p -- "$target" && target=$(cd -P -- "$target" && pwd) ;; esac
export work vault target source
total=$(wc -l < "$work/files")
: > "$work/done"
# A worker that fails has named its file; what counts is how many were copied.
[ "$total" -eq 0 ] || tr '\n' '\0' < "$work/files" |
  xargs -0 -n 1 -P "${JOBS:-8}" bash -c 'restore "$1"' restore || true
count=$(wc -l < "$work/done")
failed=0
case $target in
  s3://*) ;;
  *)
    restore_kind < <(jq -c 'select(.kind == "folder")' "$work/listing") || failed=1
    restore_kind < <(jq -c 'select(.kind | type == "object" and has("link"))' "$work/listing") || failed=1 ;;
esac
echo "$((count)) of $((total)) files restored"
[ "$failed" = 0 ] && [ "$count" -eq "$total" ]
