# complete.zsh FOLDER KIT LINE...   What zsh itself offers at the end of each LINE, in FOLDER: "= LINE", and one a line.
# An interactive shell completes, as only one that edits a line can.
zmodload zsh/zpty || exit 9
cd -- $1 || exit
kit=$2
export HOME=$1 ZDOTDIR=$1 complete_out=$1/.zsh_offers
shift 2
cat >.zshrc <<RC
unset zle_bracketed_paste
autoload -Uz compinit && compinit -u -d \$HOME/.zcompdump
source ${(q)kit}/hpc/completion.zsh
compadd() {
  local -a offers
  builtin compadd -O offers "\$@"
  if ((\$#offers)); then print -rl -- \$offers >>\$complete_out; fi
  builtin compadd "\$@"
}
try() {
  BUFFER=\$complete_line CURSOR=\$#complete_line
  zle complete-word
  : >\$complete_out.done
}
zle -N try
bindkey '^T' try
: >\$complete_out.ready
RC
for line; do
  rm -f -- $complete_out{,.done,.ready}
  export complete_line=$line
  zpty shell 'zsh -i'
  for ((i = 0; i < 1200; i++)); do
    if [[ -e $complete_out.ready ]]; then break; fi
    sleep 0.1
  done
  sleep 0.2
  for ((i = 0; i < 100; i++)); do
    zpty -w -n shell $'\x14' # ^T; again, as the shell may not have listened yet
    for ((j = 0; j < 20; j++)); do
      if [[ -e $complete_out.done ]]; then break 2; fi
      sleep 0.1
    done
  done
  zpty -d shell
  print -r -- "= $line"
  if [[ -e $complete_out ]]; then sort -u $complete_out; fi
done
