# What the scripts share. AWS is the program, EMULATED_AWS the endpoint.
set -eEuo pipefail
trap 'echo "$0: line $LINENO fails"' ERR
trap '[ $? != 0 ] || echo OK' EXIT

aws() { command "$AWS" --endpoint-url "$EMULATED_AWS" "$@"; }

# want TEXT COMMAND...: the command succeeds and prints the text; columns of tables are taken as words.
want() {
	local text=$1 got
	shift
	got=$("$@" 2>&1) || { echo "line ${BASH_LINENO[0]}: $*: fails: $got"; exit 1; }
	got=$(echo $got)
	[ "$got" = "$text" ] || { echo "line ${BASH_LINENO[0]}: $*: prints '$got', want '$text'"; exit 1; }
}

# refused CODE COMMAND...: the command fails, with the status that the CLI has for refusals (254; 255 in its first generation), naming the code.
refused() {
	local code=$1 got status=0
	shift
	got=$("$@" 2>&1) || status=$?
	[ $status = 254 ] || [ $status = 255 ] || { echo "line ${BASH_LINENO[0]}: $*: ends with $status: $got"; exit 1; }
	case $got in *"($code)"*) ;; *) echo "line ${BASH_LINENO[0]}: $*: says '$got', want $code"; exit 1 ;; esac
}
