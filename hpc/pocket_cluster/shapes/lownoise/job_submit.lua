function rules(job)
  local minutes, nodes = time_of(job), nodes_of(job)
  local hours = nodes <= 2 and 2 or nodes == 3 and 6 or 12
  if job.account == nil then return refuse("Job violates accounting/QOS policy: specify a project with -A") end
  if minutes ~= nil and minutes > hours * 60 then
    return refuse("Walltime limit for " .. nodes .. " nodes is " .. hours .. " hours")
  end
  return slurm.SUCCESS
end
