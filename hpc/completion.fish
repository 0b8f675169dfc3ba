# Completion for fish, as completion.bash has it for bash, which is asked for the words. Add to ~/.config/fish/config.fish:
#
#   source PROJECT/hpc/completion.fish

set -g hpc_completion_kit (realpath (status dirname))

function hpc_completion
    set -l word (commandline -ct)
    set -l answers (bash -- $hpc_completion_kit/completion.bash (commandline -opc) "$word" 2>/dev/null)
    if test $status -ne 3
        printf '%s\n' $answers
        return
    end
    # The name of a file, which may stand behind --option=
    set -l option (string match -r '^--[^=]*=' -- "$word")
    for path in (__fish_complete_path (string replace -r '^--[^=]*=' '' -- "$word"))
        printf '%s%s\n' "$option" $path
    end
end

function hpc_completion_is_of_bash
    string match -qr '(^|/)(job_submitter|experiments)\.sh$' -- (commandline -opc)[2]
end

complete -c job_submitter.sh -f -a '(hpc_completion)'
complete -c experiments.sh -f -a '(hpc_completion)'
complete -c bash -n hpc_completion_is_of_bash -f -a '(hpc_completion)'
