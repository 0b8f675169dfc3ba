-- Prints the banner of sbatch on standard output.
function slurm_cli_setup_defaults(_, _)
  return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, _)
  if options["type"] == "sbatch" then
    print("")
    print("-----------------------------------------------------------------")
    print("          Welcome to a pocket cluster like a Texas one           ")
    print("-----------------------------------------------------------------")
    print("")
    for _, check in ipairs({ "valid submit host", "valid jobname", "valid ssh keys", "access to desired queue" }) do
      print("--> Verifying " .. check .. "...OK")
    end
    -- It comes before sbatch's own output, also in a pipe.
    io.stdout:flush()
  end
  return slurm.SUCCESS
end

function slurm_cli_post_submit(_, _, _)
  return slurm.SUCCESS
end
