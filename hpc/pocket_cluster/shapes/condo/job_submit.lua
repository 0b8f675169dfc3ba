function rules(job)
  if job.partition == "lab" and job.account ~= "lab_x" then
    return refuse("The partition lab is used with its account: --account=lab_x")
  end
  return slurm.SUCCESS
end
