local whole = { h100 = 4, h200 = 8 }

function rules(job)
  local gpus, kind = gpus_of(job)
  local minutes = time_of(job)
  if string.sub(job.account or "", 1, 4) ~= "aip-" then
    return refuse("Please specify an account that starts with aip-: --account=aip-someone")
  end
  if minutes ~= nil and minutes > 1440 then return refuse("The maximum walltime is 24 hours.") end
  if kind == nil then return refuse("Please specify the type of GPU: --gpus-per-node=h100:4 or --gpus-per-node=h200:8") end
  if whole[kind] and gpus ~= whole[kind] then
    return refuse("Jobs must use all the GPUs of each node: --gpus-per-node=" .. kind .. ":" .. whole[kind])
  end
  return slurm.SUCCESS
end
