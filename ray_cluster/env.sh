# What every shell of the cluster needs: edit it, then 'ray up' copies it to ~/.stdcl/cluster/env.sh on each machine.
# 'ray submit' and 'ray exec' run in a login shell that knows nothing of the start commands, so it is read there too.

export PATH="$HOME/stdcl-venv/bin:$PATH"     # the environment that Ray and this package are installed in
export STDCL_STORAGE=/shared/runs            # a folder that every machine sees under this path: results, checkpoints
export STDCL_DATA=/shared/data               # prepared data: in the shared folder, or copied to the same path everywhere
export RAY_AUTH_MODE=token                   # with the same ~/.ray/auth_token (chmod 600) on every machine
export RAY_USAGE_STATS_ENABLED=0
