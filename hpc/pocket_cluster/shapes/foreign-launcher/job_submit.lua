function rules(job)
  if job.account == nil then return refuse("You have to specify a budget account: --account") end
  return slurm.SUCCESS
end
