#!/usr/bin/env bash
# What 'ray up' runs once on each machine. Needs no internet: the wheel was built elsewhere, its dependencies are installed.
set -euo pipefail
cluster=$HOME/.stdcl/cluster

# Login shells ('ray submit', 'ray exec') read ~/.bashrc; on many systems only its first lines, so ours goes first.
line='. ~/.stdcl/cluster/env.sh'
touch "$HOME/.bashrc"
if ! grep -qxF "$line" "$HOME/.bashrc"; then
  { echo "$line"; cat "$HOME/.bashrc"; } > "$HOME/.bashrc.new"
  mv "$HOME/.bashrc.new" "$HOME/.bashrc"
fi

. "$cluster/env.sh"
shopt -s nullglob
wheels=("$HOME"/.stdcl/dist/stdcl-*.whl)
if [ ${#wheels[@]} -ne 1 ]; then
  echo "error: ${#wheels[@]} wheels of stdcl in dist/, one is expected: remove the old ones, 'pip wheel --no-deps -w dist .'" >&2
  exit 1
fi
python -m pip install --quiet --no-index --no-deps --force-reinstall "${wheels[0]}"
python -c 'import stdcl, ray, torch' || { echo "error: $(command -v python) lacks packages (see above)" >&2; exit 1; }
for folder in "$STDCL_STORAGE" "$STDCL_DATA"; do
  [ -d "$folder" ] || { echo "error: $folder (env.sh) is not on $(hostname): mount the shared folder" >&2; exit 1; }
done
